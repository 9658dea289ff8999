-- For LuaRocks, in a checkout: luarocks make .packaging/nablua-scm-1.rockspec
-- A source rock gets its version from CMakeLists.txt, and its source is beside it (package.sh).
rockspec_format = "3.0"
package = "nablua"
version = "scm-1"
source = {
  url = "file://.",
}
description = {
  summary = "Tensors and neural nets: define, train and inspect",
  detailed = [[
A C runtime of tensors and backpropagation with layers, optimizers, data sets and plots.  Every step of a training can be
looked at: values, gradients, the factors that make them.]],
  license = "MIT",
  labels = { "machine-learning", "numeric" },
}
supported_platforms = { "linux" }
dependencies = {
  "lua >= 5.4, < 5.5",
}
external_dependencies = {
  JANSSON = { header = "jansson.h" },
  ZLIB = { header = "zlib.h" },
  PNG = { header = "png.h" },
  JPEG = { header = "jpeglib.h" },
  RANDOM123 = { header = "Random123/philox.h" },
}
build = {
  type = "command",
  build_command = "cmake -S . -B build/rock -D CMAKE_BUILD_TYPE=Release -D NABLUA_ONLY_MODULE=ON && " ..
    "cmake --build build/rock --target nablua_module --parallel 2",
  install_command = 'cmake -E make_directory "$(LIBDIR)" && cmake -E copy build/rock/nablua.so "$(LIBDIR)/nablua.so"',
  copy_directories = { "examples" },
}
