#include "hyena/io/mapped_file.h"

#include <utility>

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/io/temporary_folder.h"

namespace hyena::io {
namespace {

using testing_support::message_of;
using testing_support::TemporaryFolder;
using testing_support::write_text;

TEST(MappedFile, HoldsTheBytesAndMoves) {
  const TemporaryFolder folder;
  write_text(folder / "a", std::string_view("a\0b", 3));
  MappedFile file(folder / "a");
  EXPECT_EQ(file.text(), std::string_view("a\0b", 3));
  MappedFile moved(std::move(file));
  EXPECT_EQ(moved.text().size(), 3U);
  write_text(folder / "b", "other");
  moved = MappedFile(folder / "b");
  EXPECT_EQ(moved.text(), "other");
  EXPECT_EQ(moved.path(), folder / "b");
}

TEST(MappedFile, EmptyIsAllowedOrNot) {
  const TemporaryFolder folder;
  write_text(folder / "a", "");
  EXPECT_EQ(MappedFile(folder / "a").bytes().size(), 0U);
  EXPECT_EQ(message_of<UserError>([&] { MappedFile(folder / "a", MappedFile::Empty::kRefused); }),
            (folder / "a").string() + " is empty");
}

TEST(MappedFile, RefusesWhatIsNoFile) {
  const TemporaryFolder folder;
  const auto open = [&](const char* name) {
    return message_of<UserError>([&] { MappedFile(folder / name); });
  };
  const std::string cannot = "cannot open " + folder.path().string();
  EXPECT_EQ(open("missing"), cannot + "/missing: No such file or directory");
  EXPECT_EQ(open(""), cannot + "/: expected a file, got a folder");
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(open("pipe"), cannot + "/pipe: expected a regular file");
  write_text(folder / "file", "x");
  EXPECT_EQ(open("file/below"), cannot + "/file/below: Not a directory");
  ::chmod((folder / "file").c_str(), 0);
  const testing_support::WithoutRoot nobody;
  EXPECT_EQ(open("file"), cannot + "/file: Permission denied");
}

}  // namespace
}  // namespace hyena::io
