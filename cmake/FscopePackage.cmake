# What others build against: .pc files, find_package(Fiberscope), and the Debian packages of CPack.

include(CMakePackageConfigHelpers)
set(FSCOPE_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/Fiberscope)

file(RELATIVE_PATH FSCOPE_PC_UP "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/") # so the tree may be moved
configure_file(cmake/fiberscope.pc.in fiberscope.pc @ONLY)
configure_file(cmake/fiberscope-rt.pc.in fiberscope-rt.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/fiberscope.pc ${PROJECT_BINARY_DIR}/fiberscope-rt.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
        COMPONENT dev)

configure_package_config_file(cmake/FiberscopeConfig.cmake.in FiberscopeConfig.cmake
  INSTALL_DESTINATION ${FSCOPE_CMAKE_DIR})
write_basic_package_version_file(FiberscopeConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/FiberscopeConfig.cmake
              ${PROJECT_BINARY_DIR}/FiberscopeConfigVersion.cmake
        DESTINATION ${FSCOPE_CMAKE_DIR} COMPONENT dev)
install(EXPORT FiberscopeTargets NAMESPACE Fiberscope:: DESTINATION ${FSCOPE_CMAKE_DIR}
        COMPONENT dev)
install(FILES LICENSE README.md SECURITY.md DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT tools)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME fiberscope)
set(CPACK_PACKAGE_VENDOR "The Fiberscope authors")
set(CPACK_PACKAGE_CONTACT "The Fiberscope authors <maintainers@fiberscope.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "pprof and the execution tracer for C")
set(CPACK_PACKAGE_DIRECTORY ${PROJECT_BINARY_DIR}/packages)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES OFF)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL tools agent dev)
if(FSCOPE_VIEWER_FOUND) # a package of its own: a server needs no graphics libraries
  list(APPEND CPACK_COMPONENTS_ALL viewer)
  set(CPACK_DEBIAN_VIEWER_PACKAGE_NAME fiberscope-view)
  set(CPACK_DEBIAN_VIEWER_PACKAGE_RECOMMENDS "fiberscope, fonts-dejavu-core")
  set(CPACK_COMPONENT_VIEWER_DESCRIPTION "The desktop viewer of traces and profiles.")
endif()
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SECTION devel)
set(CPACK_DEBIAN_TOOLS_PACKAGE_NAME fiberscope)
set(CPACK_DEBIAN_AGENT_PACKAGE_NAME libfiberscope0)
set(CPACK_DEBIAN_AGENT_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_DEV_PACKAGE_NAME libfiberscope-dev)
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_TOOLS_PACKAGE_DEPENDS "libfiberscope0 (= ${PROJECT_VERSION})")
set(CPACK_DEBIAN_TOOLS_PACKAGE_RECOMMENDS "libdebuginfod1") # loaded when it is first needed
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS "libfiberscope0 (= ${PROJECT_VERSION})")
set(CPACK_COMPONENT_TOOLS_DESCRIPTION "The fiberscope command: records and reads profiles.")
set(CPACK_COMPONENT_AGENT_DESCRIPTION "The libraries that run inside a profiled program.")
set(CPACK_COMPONENT_DEV_DESCRIPTION "Headers to profile a program from within.")
include(CPack)
