# Makes a header of arrays from style and script: cmake -DNAME= -DCSS= -DJS= -DOUT= -P.
function(embed name file result)
  file(READ ${file} text HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${text}")
  set(${result} "static const char ${name}[] = {${bytes}0};\n" PARENT_SCOPE)
endfunction()
embed(${NAME}_css ${CSS} css)
embed(${NAME}_js ${JS} js)
file(WRITE ${OUT} "/* generated */\n${css}${js}")
