# SPDX-License-Identifier: MIT
# Writes OUTPUT, a C file that holds as text the Lua sources of FOLDER that the file LIST names.
# As string literals: the compiler reads half a megabyte of those at once, and of numbers in seconds.
file(READ ${LIST} FILES)
list(SORT FILES)
set(texts "")
set(rows "")
set(count 0)
foreach(file ${FILES})
  file(READ ${FOLDER}/${file} hex HEX)
  string(REGEX REPLACE "(..)" "\\\\x\\1" text "${hex}")
  string(REGEX REPLACE "\\.lua$" "" name ${file})
  string(REPLACE "/" "." name ${name})
  string(APPEND texts "static const unsigned char text_${count}[] = \"${text}\";\n")
  string(APPEND rows "    {\"nablua.${name}\", text_${count}, sizeof text_${count} - 1},\n")
  math(EXPR count "${count} + 1")
endforeach()
file(WRITE ${OUTPUT} "// Written by lua/embed.cmake.\n#include \"sources.h\"\n\n${texts}\n"
     "const LuaSource nb_lua_sources[] = {\n${rows}    {0, 0, 0},\n};\nconst int nb_lua_source_count = ${count};\n")
