#include "hyena/io/atomic_file.h"

#include <csignal>
#include <functional>
#include <string>

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/io/temporary_folder.h"

namespace hyena::io {
namespace {

namespace fs = std::filesystem;
using testing_support::listing;
using testing_support::message_of;
using testing_support::read_text;
using testing_support::TemporaryFolder;
using testing_support::write_text;

/// Runs `action` in a child whose files may grow to `limit` bytes: how a full disk looks, without
/// one. Returns what the action returned.
std::string in_child_with_file_limit(rlim_t limit, const std::function<std::string()>& action) {
  std::array<int, 2> pipe_ends{};
  EXPECT_EQ(::pipe(pipe_ends.data()), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit size_limit{limit, limit};
    ::setrlimit(RLIMIT_FSIZE, &size_limit);
    std::string result = action();
    const ssize_t wrote = ::write(pipe_ends[1], result.data(), result.size());
    ::_exit(wrote == static_cast<ssize_t>(result.size()) ? 0 : 1);
  }
  ::close(pipe_ends[1]);
  std::string result(4096, '\0');
  const ssize_t got = ::read(pipe_ends[0], result.data(), result.size());
  ::close(pipe_ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  result.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return result;
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const RunError& error) {
    return error.what();
  }
  return "no error";
}

TEST(FileWriter, WritesAppendsAndPatches) {
  const TemporaryFolder folder;
  const fs::path path = folder / "a";
  const std::string large(200'000, 'x');
  {
    FileWriter writer(path, FileWriter::Open::kTruncate);
    writer.write("head");
    writer.write(large);
    writer.write("tail");
    writer.write_at(1, "EA");
    EXPECT_EQ(writer.size(), 200'008);
    writer.close();
  }
  EXPECT_EQ(read_text(path), "hEAd" + large + "tail");
  FileWriter again(path, FileWriter::Open::kAppend);
  again.write("!");
  again.close();
  EXPECT_EQ(read_text(path), "hEAd" + large + "tail!");
  EXPECT_EQ(message_of<RunError>([&] { FileWriter(path, FileWriter::Open::kNew); }),
            "cannot write " + path.string() + ": File exists");
}

TEST(FileWriter, AFullDeviceIsAnErrorWhereverTheBytesLeaveTheBuffer) {
  const std::string expected = "cannot write /dev/full: No space left on device";
  const std::string large(100'000, 'x');
  FileWriter a("/dev/full", FileWriter::Open::kTruncate);
  EXPECT_EQ(message_of<RunError>([&] { a.write(large); }), expected);
  FileWriter b("/dev/full", FileWriter::Open::kTruncate);
  b.write("x");
  EXPECT_EQ(message_of<RunError>([&] { b.flush(); }), expected);
  FileWriter c("/dev/full", FileWriter::Open::kTruncate);
  c.write("x");
  EXPECT_EQ(message_of<RunError>([&] { c.sync(); }), expected);
  FileWriter d("/dev/full", FileWriter::Open::kTruncate);
  d.write("x");
  EXPECT_EQ(message_of<RunError>([&] { d.close(); }), expected);
  FileWriter e("/dev/full", FileWriter::Open::kTruncate);
  EXPECT_EQ(message_of<RunError>([&] { e.write_at(0, "x"); }), expected);
}

TEST(WriteFileAtomically, ReplacesAndLeavesNothingElse) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "one");
  EXPECT_EQ(read_text(folder / "a"), "one");
  write_file_atomically(folder / "a", [](FileWriter& out) { out.write("two"); });
  EXPECT_EQ(read_text(folder / "a"), "two");
  EXPECT_EQ(listing(folder.path()), "a");
}

TEST(WriteFileAtomically, AnExceptionFromTheCallbackLeavesTheOldFile) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "old");
  const auto fill = [](FileWriter& out) {
    out.write("half of the new");
    throw UserError("stop");
  };
  EXPECT_EQ(message_of<UserError>([&] { write_file_atomically(folder / "a", fill); }), "stop");
  EXPECT_EQ(read_text(folder / "a"), "old");
  EXPECT_EQ(listing(folder.path()), "a");
}

TEST(WriteFileAtomically, AShortWriteLeavesTheOldFile) {
  const TemporaryFolder folder;
  const fs::path path = folder / "a";
  write_file_atomically(path, "old");
  for (const std::size_t size : {1001U, 50'000U, 500'000U}) {  // in the buffer, at close, past it
    const std::string bytes(size, 'n');
    const std::string error = in_child_with_file_limit(1000, [&] {
      return error_of([&] { write_file_atomically(path, bytes); }) + " | " + listing(folder.path());
    });
    EXPECT_TRUE(error.starts_with("cannot write " + (folder / ".a.tmp-").string())) << error;
    EXPECT_TRUE(error.ends_with(": File too large | a")) << error;
    EXPECT_EQ(read_text(path), "old");
  }
  const std::string fits(1000, 'n');
  EXPECT_EQ(in_child_with_file_limit(
                1000, [&] { return error_of([&] { write_file_atomically(path, fits); }); }),
            "no error");
  EXPECT_EQ(read_text(path), fits);
}

TEST(WriteFileAtomically, RefusesWhatARenameWouldDestroy) {
  const TemporaryFolder folder;
  const fs::path pipe = folder / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  fs::create_symlink(pipe, folder / "link");  // as /dev/stdout is one
  for (const char* name : {"pipe", "link"}) {
    EXPECT_EQ(message_of<RunError>([&] { write_file_atomically(folder / name, "x"); }),
              "cannot write " + (folder / name).string() +
                  ": expected a regular file, got a device or pipe");
  }
  EXPECT_TRUE(fs::is_fifo(pipe));
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_EQ(listing(folder.path()), "link pipe");
}

TEST(WriteFileAtomically, NamesTheMissingFolder) {
  const TemporaryFolder folder;
  const std::string message =
      message_of<RunError>([&] { write_file_atomically(folder / "no/such/file", "x"); });
  EXPECT_TRUE(message.starts_with("cannot write " + (folder / "no/such/").string())) << message;
  EXPECT_TRUE(message.ends_with(": No such file or directory")) << message;
}

TEST(WriteFileAtomically, NamesTheFolderItMayNotWriteTo) {
  const TemporaryFolder folder;
  fs::permissions(folder.path(), fs::perms(0555));
  const testing_support::WithoutRoot nobody;
  const std::string message =
      message_of<RunError>([&] { write_file_atomically(folder / "a", "x"); });
  EXPECT_TRUE(message.ends_with(": Permission denied")) << message;
  EXPECT_EQ(message_of<RunError>([&] { AtomicDirectory directory(folder / "new/a"); }),
            "cannot create the folder " + (folder / "new").string() + ": Permission denied");
}

TEST(AtomicDirectory, AppearsWhole) {
  const TemporaryFolder folder;
  const fs::path target = folder / "runs/a/step-1/";  // parents are made; the slash is harmless
  {
    AtomicDirectory directory(target);
    EXPECT_FALSE(fs::exists(target));
    write_text(directory.path() / "x", "1");
    fs::create_directory(directory.path() / "sub");
    write_text(directory.path() / "sub/y", "2");
    directory.commit();
  }
  EXPECT_EQ(read_text(folder / "runs/a/step-1/x"), "1");
  EXPECT_EQ(read_text(folder / "runs/a/step-1/sub/y"), "2");
  EXPECT_EQ(listing(folder / "runs/a"), "step-1");
}

TEST(AtomicDirectory, WithoutCommitNothingStays) {
  const TemporaryFolder folder;
  {
    const AtomicDirectory directory(folder / "a");
    write_text(directory.path() / "x", "1");
  }
  EXPECT_EQ(listing(folder.path()), "");
}

TEST(AtomicDirectory, ReplacesOnlyWhenAsked) {
  const TemporaryFolder folder;
  fs::create_directory(folder / "a");  // empty: plain rename() would replace it silently
  {
    AtomicDirectory directory(folder / "a");
    write_text(directory.path() / "x", "new");
    EXPECT_EQ(message_of<RunError>([&] { directory.commit(); }),
              "cannot write " + (folder / "a").string() + ": File exists");
  }
  EXPECT_EQ(listing(folder / "a"), "");
  write_text(folder / "a/old", "old");
  {
    AtomicDirectory directory(folder / "a");
    write_text(directory.path() / "x", "new");
    directory.commit(IfExists::kReplace);
  }
  EXPECT_EQ(listing(folder / "a"), "x");
  EXPECT_EQ(listing(folder.path()), "a");
  AtomicDirectory fresh(folder / "b");
  fresh.commit(IfExists::kReplace);  // nothing there to replace
  EXPECT_EQ(listing(folder.path()), "a b");
}

TEST(AtomicDirectory, RemovesLeftoversOfDeadProcessesOnly) {
  const TemporaryFolder folder;
  const pid_t dead = ::fork();
  if (dead == 0) {
    ::_exit(0);
  }
  ::waitpid(dead, nullptr, 0);
  fs::create_directory(folder / ".a.tmp-1");  // process 1 runs
  fs::create_directory(folder / ".a.tmp-notes");
  fs::create_directory(folder / (".b.tmp-" + std::to_string(dead)));  // of another target
  fs::create_directory(folder / (".a.tmp-" + std::to_string(dead)));
  write_text(folder / (".a.tmp-" + std::to_string(dead)) / "x", "1");
  AtomicDirectory(folder / "a").commit();
  EXPECT_EQ(listing(folder.path()), ".a.tmp-1 .a.tmp-notes .b.tmp-" + std::to_string(dead) + " a");
}

/// kill -9 at a random moment of a loop of replacements: the folder is there and of one piece.
TEST(AtomicDirectory, SurvivesKillAtAnyMoment) {
  const TemporaryFolder folder;
  const fs::path target = folder / "a";
  const auto write_version = [&](int version) {
    AtomicDirectory directory(target);
    write_text(directory.path() / "x", std::to_string(version));
    write_text(directory.path() / "y", std::to_string(version));
    directory.commit(IfExists::kReplace);
  };
  write_version(0);
  for (int trial = 0; trial < 20; ++trial) {
    const pid_t child = ::fork();
    if (child == 0) {
      for (int version = 1;; ++version) {
        write_version(version);
      }
    }
    ::usleep(static_cast<useconds_t>(500 + 977 * trial));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    ASSERT_TRUE(fs::exists(target / "x")) << trial;
    ASSERT_EQ(read_text(target / "x"), read_text(target / "y")) << trial;
    ASSERT_NE(read_text(target / "x"), "") << trial;
  }
  write_version(1);
  EXPECT_EQ(listing(folder.path()), "a");
}

}  // namespace
}  // namespace hyena::io
