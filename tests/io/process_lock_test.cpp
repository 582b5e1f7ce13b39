#include "hyena/io/process_lock.h"

#include <array>
#include <csignal>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/io/temporary_folder.h"

namespace hyena::io {
namespace {

namespace fs = std::filesystem;
using testing_support::listing;
using testing_support::message_of;
using testing_support::TemporaryFolder;

TEST(ProcessLock, IsHeldOnceAndReleased) {
  const TemporaryFolder folder;
  for (const fs::path& path : {folder.path(), folder / "file"}) {
    {
      const ProcessLock first(path);
      EXPECT_TRUE(first.is_held());
      EXPECT_FALSE(ProcessLock(path).is_held());
      EXPECT_FALSE(ProcessLock(path).is_held()) << "one that was refused must release nothing";
    }
    EXPECT_TRUE(ProcessLock(path).is_held());
  }
  EXPECT_EQ(listing(folder.path()), "file");  // a folder's lock leaves nothing in it
}

TEST(ProcessLock, EndsWithItsProcess) {
  const TemporaryFolder folder;
  std::array<int, 2> pipe_ends{};
  ASSERT_EQ(::pipe(pipe_ends.data()), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const ProcessLock lock(folder.path());
    const char held = lock.is_held() ? 'y' : 'n';
    if (::write(pipe_ends[1], &held, 1) == 1) {
      ::pause();
    }
    ::_exit(0);
  }
  char held = '?';
  EXPECT_EQ(::read(pipe_ends[0], &held, 1), 1);
  EXPECT_EQ(held, 'y');
  EXPECT_FALSE(ProcessLock(folder.path()).is_held());
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_TRUE(ProcessLock(folder.path()).is_held());
  ::close(pipe_ends[0]);
  ::close(pipe_ends[1]);
}

TEST(ProcessLock, NamesWhatItCannotOpen) {
  const TemporaryFolder folder;
  const fs::path path = folder / "no/lock";
  EXPECT_EQ(message_of<RunError>([&] { const ProcessLock lock(path); }),
            "cannot open " + path.string() + ": No such file or directory");
}

}  // namespace
}  // namespace hyena::io
