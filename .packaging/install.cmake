# SPDX-License-Identifier: MIT
# What `cmake --install BUILD --prefix P` leaves in P: a tree that works from there, and after it was moved.
#
#   bin/             nablua, nablua-kernel (which hold the library and the language themselves)
#   lib/             libnablua.so.0 with its headers and nablua.pc, for C; lua/5.4/nablua.so for a stock interpreter;
#                    nablua/dist.so, twice: beside that, too
#   share/jupyter/   the kernelspec with its logos, which names the kernel by its place beside it
#   share/nablua/    meta/nablua.lua, for editors with a Lua Language Server (workspace.library)
#   share/man/       the manual's pages;  share/doc/nablua/   the rest, with the examples
include(GNUInstallDirs)
set(NABLUA_LUADIR ${CMAKE_INSTALL_LIBDIR}/lua/5.4 CACHE STRING "Where the module for a stock lua5.4 goes, below the prefix")
set(PAGES ${CMAKE_BINARY_DIR}/install)

# Only the build that people use is one to install; others have no manual either.
if(NOT CMAKE_BUILD_TYPE STREQUAL "Release" OR CMAKE_CROSSCOMPILING OR NABLUA_SANITIZE)
  return()
endif()

set(INSTALLED nablua_module nablua_shared)
set(FILES "")
if(TARGET nablua)
  foreach(program nablua nablua-kernel)
    if(TARGET ${program})
      list(APPEND MANUAL ${PAGES}/${program}.1)
      add_custom_command(
        OUTPUT ${PAGES}/${program}.1
        COMMAND ${CMAKE_COMMAND} -E make_directory ${PAGES}
        COMMAND nablua ${CMAKE_SOURCE_DIR}/.packaging/manual.lua $<TARGET_FILE:${program}> ${PAGES}/${program}.1
        DEPENDS nablua ${program} ${CMAKE_SOURCE_DIR}/.packaging/manual.lua
        COMMENT "Writing ${program}.1"
        VERBATIM)
      list(APPEND INSTALLED ${program})
    endif()
  endforeach()
  set(META ${CMAKE_BINARY_DIR}/lua/meta/nablua.lua)
  list(APPEND FILES ${MANUAL} ${META})
  install(FILES ${META} DESTINATION ${CMAKE_INSTALL_DATADIR}/nablua/meta)
  install(FILES ${MANUAL} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  install(TARGETS nablua)
endif()

if(TARGET nablua-kernel)
  # Jupyter puts the spec's own folder in place of {resource_dir}.
  set(SPEC ${PAGES}/share/jupyter/kernels/nablua)
  file(RELATIVE_PATH back /${CMAKE_INSTALL_DATADIR}/jupyter/kernels/nablua /${CMAKE_INSTALL_BINDIR}/nablua-kernel)
  add_custom_command(
    OUTPUT ${SPEC}/kernel.json
    COMMAND nablua-kernel install --prefix ${PAGES} --program "{resource_dir}/${back}"
    DEPENDS nablua-kernel
    COMMENT "Writing the kernelspec"
    VERBATIM)
  list(APPEND FILES ${SPEC}/kernel.json)
  install(DIRECTORY ${SPEC} DESTINATION ${CMAKE_INSTALL_DATADIR}/jupyter/kernels)
  install(TARGETS nablua-kernel)
endif()

# For C.  The file for pkg-config finds the tree from its own place.
file(RELATIVE_PATH up /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(${CMAKE_SOURCE_DIR}/.packaging/nablua.pc.in ${PAGES}/nablua.pc @ONLY)
install(FILES ${PAGES}/nablua.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(TARGETS nablua_shared)
file(GLOB faces CONFIGURE_DEPENDS runtime/*/include/nablua/*.h)
install(FILES ${faces} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/nablua)

# For a stock interpreter.
install(TARGETS nablua_module LIBRARY DESTINATION ${NABLUA_LUADIR})

# What joins processes by MPI, where the programs look for it and where the module does.
if(TARGET nablua_dist)
  list(APPEND INSTALLED nablua_dist)
  install(TARGETS nablua_dist LIBRARY DESTINATION lib/nablua)
  install(TARGETS nablua_dist LIBRARY DESTINATION ${NABLUA_LUADIR}/nablua)
endif()

install(FILES LICENSE README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
# What the README shows and leads to; the site is made elsewhere.
install(DIRECTORY docs DESTINATION ${CMAKE_INSTALL_DOCDIR} PATTERN site EXCLUDE)
install(DIRECTORY examples DESTINATION ${CMAKE_INSTALL_DOCDIR} PATTERN ".ipynb_checkpoints" EXCLUDE PATTERN "__pycache__" EXCLUDE)

# All that is installed; `installable` is there when it is, for the test.
set(INSTALLABLE ${CMAKE_BINARY_DIR}/installable)
add_custom_command(OUTPUT ${INSTALLABLE} COMMAND ${CMAKE_COMMAND} -E touch ${INSTALLABLE} DEPENDS ${FILES} ${INSTALLED} VERBATIM)
add_custom_target(nablua_installable ALL DEPENDS ${INSTALLABLE})
