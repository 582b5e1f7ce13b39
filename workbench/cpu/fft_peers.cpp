// What a padded FFT costs before anything is done with it: FFTW transforms of size 2L, real to
// complex and back, float32, two threads, as a convolution by FFT needs them. Nanoseconds per
// element (b, d, t) for one forward and one inverse transform of every (b, d) row, contiguous,
// plans measured (FFTW_MEASURE).
//
//   apt install libfftw3-dev
//   g++ -O2 -std=c++20 workbench/cpu/fft_peers.cpp -o fft_peers -lfftw3f_threads -lfftw3f -pthread
//   ./fft_peers [channels [tokens [lengths...]]]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <fftw3.h>

int main(int argc, char** argv) {
  const int D = argc > 1 ? std::atoi(argv[1]) : 768;
  const int tokens = argc > 2 ? std::atoi(argv[2]) : 16384;
  std::vector<int> lengths{256, 1024, 4096, 16384, 65536};
  if (argc > 3) {
    lengths.clear();
    for (int i = 3; i < argc; ++i) {
      lengths.push_back(std::atoi(argv[i]));
    }
  }
  fftwf_init_threads();
  fftwf_plan_with_nthreads(2);
  for (const int L : lengths) {
    const int rows = D * std::max(1, tokens / L);
    const int n = 2 * L;
    const auto size = static_cast<std::size_t>(rows);
    float* x = fftwf_alloc_real(size * static_cast<std::size_t>(n));
    fftwf_complex* X = fftwf_alloc_complex(size * static_cast<std::size_t>(L + 1));
    fftwf_plan forward =
        fftwf_plan_many_dft_r2c(1, &n, rows, x, nullptr, 1, n, X, nullptr, 1, L + 1, FFTW_MEASURE);
    fftwf_plan inverse =
        fftwf_plan_many_dft_c2r(1, &n, rows, X, nullptr, 1, L + 1, x, nullptr, 1, n, FFTW_MEASURE);
    std::fill_n(x, size * static_cast<std::size_t>(n), 0.5F);
    std::vector<double> seconds;
    for (int i = 0; i < 9; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      fftwf_execute(forward);
      fftwf_execute(inverse);
      const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - begin;
      seconds.push_back(wall.count());
    }
    std::sort(seconds.begin(), seconds.end());
    std::printf("%8d  %7.3f ns\n", L, seconds[4] * 1e9 / (static_cast<double>(rows) * L));
    std::fflush(stdout);
    fftwf_destroy_plan(forward);
    fftwf_destroy_plan(inverse);
    fftwf_free(x);
    fftwf_free(X);
  }
}
