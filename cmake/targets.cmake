# hyena_library(<folder> SOURCES a.cpp b.cpp [LINKS target...] [TORCH])
#
# The static library hyena_<folder> of hyena/<folder>. LINKS are public: what a layer's headers
# may include. TORCH adds LibTorch and the shared precompiled header.
function(hyena_library folder)
  cmake_parse_arguments(ARG "TORCH" "" "SOURCES;LINKS" ${ARGN})
  set(target hyena_${folder})
  add_library(${target} STATIC ${ARG_SOURCES})
  target_include_directories(${target} PUBLIC "${PROJECT_SOURCE_DIR}")
  target_link_libraries(${target} PUBLIC ${ARG_LINKS} PRIVATE hyena_warnings)
  if(ARG_TORCH)
    hyena_use_torch(${target})
  endif()
endfunction()

# Everything that needs LibTorch shares one precompiled <torch/torch.h>: a file costs 3 s instead
# of 13 s. The sources still include what they use; clang-tidy compiles them without it.
function(hyena_use_torch target)
  target_link_libraries(${target} PUBLIC hyena::torch)
  # -fpch-preprocess lets ccache see through the header. -fPIC for programs too: GCC refuses a header
  # that was precompiled for another code model (-fPIE).
  target_compile_options(${target} PRIVATE -fpch-preprocess -fPIC)
  if(NOT TARGET hyena_pch)
    # file(CONFIGURE) leaves an equal file alone; file(WRITE) would rebuild the world each time.
    file(CONFIGURE OUTPUT "${CMAKE_BINARY_DIR}/pch.cpp"
      CONTENT "// Only carries the precompiled header.\n")
    add_library(hyena_pch OBJECT "${CMAKE_BINARY_DIR}/pch.cpp")
    target_link_libraries(hyena_pch PUBLIC hyena::torch PRIVATE hyena_warnings)
    target_compile_options(hyena_pch PRIVATE -fpch-preprocess)
    target_precompile_headers(hyena_pch PRIVATE <torch/torch.h> <torch/library.h>)
  endif()
  target_precompile_headers(${target} REUSE_FROM hyena_pch)
endfunction()

# hyena_test(<folder> SOURCES a_test.cpp... LINKS target... [TORCH] [LABELS l...])
#
# One program hyena_test_<folder> and one ctest entry <folder>: a torch program takes a second to
# load, so hundreds of entries would spend minutes on that alone. Run it with --gtest_filter.
function(hyena_test folder)
  cmake_parse_arguments(ARG "TORCH" "" "SOURCES;LINKS;LABELS" ${ARGN})
  set(target hyena_test_${folder})
  add_executable(${target} ${ARG_SOURCES})
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_link_libraries(${target} PRIVATE ${ARG_LINKS} hyena_warnings GTest::gtest_main)
  if(ARG_TORCH)
    hyena_use_torch(${target})
  endif()
  add_test(NAME ${folder} COMMAND ${target})
  set_tests_properties(${folder} PROPERTIES WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
    LABELS "${ARG_LABELS}")
endfunction()
