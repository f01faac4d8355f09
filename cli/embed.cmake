# Makes cli/flame_embed.h from the flame graph's style and script: cmake -DCSS= -DJS= -DOUT= -P.
function(embed name file result)
  file(READ ${file} text HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${text}")
  set(${result} "static const char ${name}[] = {${bytes}0};\n" PARENT_SCOPE)
endfunction()
embed(flame_css ${CSS} css)
embed(flame_js ${JS} js)
file(WRITE ${OUT} "/* generated */\n${css}${js}")
