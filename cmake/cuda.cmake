# CUDA as a language: sm_90a machine code for the Hopper kernels, PTX for every other GPU.
if(NOT CMAKE_CUDA_COMPILER)
  find_program(CMAKE_CUDA_COMPILER nvcc HINTS /usr/local/cuda/bin REQUIRED)
endif()
set(CMAKE_CUDA_ARCHITECTURES OFF)  # the -gencode flags below say it all
enable_language(CUDA)
# CMake 3.25 does not know that nvcc speaks C++20: cuda_std_20 fails to configure, and a
# hand-written -std=c++20 is overruled by the -std=c++17 that CMake appends after it.
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
