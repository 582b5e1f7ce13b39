// Runs the program as its users do: a process with arguments, two streams and an exit code.
#pragma once

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/io/temporary_folder.h"

namespace hyena::testing_support {

struct Outcome {
  int code = -1;  ///< exit code, or minus the signal that ended the program
  std::string out;
  std::string err;
};

struct Environment {
  std::int64_t largest_file = 0;  ///< RLIMIT_FSIZE, 0: none
  std::string stdout_path{};      ///< instead of collecting it
  std::string stderr_path{};      ///< the same
};

/// A started program; collects its streams in files, so that no pipe can fill up.
class Process {
 public:
  explicit Process(const std::vector<std::string>& arguments, const Environment& environment = {}) {
    const std::string out_path =
        environment.stdout_path.empty() ? (folder_ / "out").string() : environment.stdout_path;
    const std::string err_path =
        environment.stderr_path.empty() ? (folder_ / "err").string() : environment.stderr_path;
    pid_ = ::fork();
    if (pid_ == 0) {
      const int out = ::open(out_path.c_str(), O_WRONLY | O_CREAT, 0666);
      const int err = ::open(err_path.c_str(), O_WRONLY | O_CREAT, 0666);
      const int in = ::open("/dev/null", O_RDONLY);
      ::dup2(in, 0);
      ::dup2(out, 1);
      ::dup2(err, 2);
      if (environment.largest_file > 0) {
        const auto bytes = static_cast<rlim_t>(environment.largest_file);
        const rlimit limit{bytes, bytes};
        ::setrlimit(RLIMIT_FSIZE, &limit);
      }
      std::vector<std::string> words{HYENA_PROGRAM};
      words.insert(words.end(), arguments.begin(), arguments.end());
      std::vector<char*> argv;
      argv.reserve(words.size() + 1);
      for (std::string& word : words) {
        argv.push_back(word.data());
      }
      argv.push_back(nullptr);
      ::execv(HYENA_PROGRAM, argv.data());
      ::_exit(126);
    }
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      (void)wait();
    }
  }

  void send(int signal) const { ::kill(pid_, signal); }
  [[nodiscard]] std::string err() const { return read_text(folder_ / "err"); }
  [[nodiscard]] bool is_running() {
    int status = 0;
    if (pid_ > 0 && ::waitpid(pid_, &status, WNOHANG) == pid_) {
      finish(status);
    }
    return pid_ > 0;
  }
  Outcome wait() {
    if (pid_ > 0) {
      int status = 0;
      while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
      }
      finish(status);
    }
    return outcome_;
  }

 private:
  void finish(int status) {
    pid_ = -1;
    outcome_.code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    outcome_.out = read_text(folder_ / "out");
    outcome_.err = read_text(folder_ / "err");
  }

  TemporaryFolder folder_;
  pid_t pid_ = -1;
  Outcome outcome_;
};

inline Outcome run_program(const std::vector<std::string>& arguments,
                           const Environment& environment = {}) {
  return Process(arguments, environment).wait();
}

/// Lines of stderr that start with "error: ".
inline std::vector<std::string> error_lines(const std::string& err) {
  std::vector<std::string> lines;
  std::istringstream text(err);
  for (std::string line; std::getline(text, line);) {
    if (line.starts_with("error: ")) {
      lines.push_back(line.substr(7));
    }
  }
  return lines;
}

/// A text, and a run on it of a model so small that three steps take no time.
class SmallRun {
 public:
  SmallRun() {
    std::string text;
    for (int i = 0; i < 400; ++i) {
      text += "the quick brown fox " + std::to_string(i * 7919 % 997) + "\n";
    }
    write_text(folder_ / "text.txt", text);
    write_text(folder_ / "run.toml", config());
    const Outcome trained = run_program(train({"--out", run()}));
    EXPECT_EQ(trained.code, 0) << trained.err;
  }

  [[nodiscard]] std::string config() const {
    return "[model]\nd_model = 8\nn_layer = 1\nd_inner = 16\nmax_length = 32\nfilter_order = 8\n"
           "embed_dropout = 0.1\n"
           "[data]\ntrain = '" +
           text() + "'\nvalid = '" + text() +
           "'\n"
           "[train]\nbatch_size = 4\nmax_steps = 3\nlog_every = 1\nevaluate_tokens = 64\n";
  }
  [[nodiscard]] std::string text() const { return (folder_ / "text.txt").string(); }
  [[nodiscard]] std::string run() const { return (folder_ / "run").string(); }
  [[nodiscard]] std::string checkpoint() const { return run() + "/checkpoints/step-3"; }
  [[nodiscard]] std::string path(std::string_view name) const { return (folder_ / name).string(); }
  [[nodiscard]] std::vector<std::string> train(const std::vector<std::string>& more) const {
    std::vector<std::string> all{"train",     "--config", path("run.toml"), "--device", "cpu",
                                 "--threads", "1"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

 private:
  TemporaryFolder folder_;
};

/// One for the whole test program.
inline const SmallRun& small_run() {
  static const SmallRun run;
  return run;
}

}  // namespace hyena::testing_support
