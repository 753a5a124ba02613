#include "hub/cache.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "hub/content_hash.h"
#include "hub/partial_file.h"
#include "tests/test_support.h"

namespace echo {
namespace {

const HubRepository kModel{false, "org/name"};
const std::string kCommit(40, 'a');
// Of the five bytes "hello": `sha256sum`, and `git hash-object`.
const std::string kSha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
const std::string kGit = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0";

void store(const HubCache& cache, const std::string& etag, const std::string& content) {
  cache.prepare(kModel);
  write_file(cache.blob(kModel, etag), content);
}

TEST(ContentHashTest, BothKindsAreThoseOfTheCommandLineTools) {
  for (const std::string& etag : {kSha256, kGit}) {
    ContentHash hash(etag, 5);
    hash.add("hel");
    hash.add("lo");
    EXPECT_EQ(hash.digits(), etag);
  }
}

TEST(PartialFileTest, AFileThatWasBegunEarlierGoesOnWithItsHash) {
  const TemporaryFolder folder;
  for (const std::string& etag : {kSha256, kGit})
    for (const std::optional<int64_t> size : {std::optional<int64_t>(5), std::optional<int64_t>()}) {
      PartialFile(folder / "part", etag, size).append("hel");
      PartialFile file(folder / "part", etag, size);
      EXPECT_EQ(file.have(), 3);
      file.append("lo");
      EXPECT_EQ(file.digits(), etag);
      file.keep_as(folder / "whole");
      EXPECT_EQ(read_file(folder / "whole"), "hello");
      EXPECT_FALSE(fs::exists(folder / "part"));
    }
}

TEST(PartialFileTest, MoreThanTheWholeFileIsThrownAway) {
  const TemporaryFolder folder;
  write_file(folder / "part", "hello and more");
  PartialFile file(folder / "part", kSha256, 5);
  EXPECT_EQ(file.have(), 0);
  file.append("hello");
  EXPECT_EQ(file.digits(), kSha256);
}

TEST(HubCacheTest, ARemovedContentTakesItsLinksWithItAndIsNoticed) {
  const TemporaryFolder folder;
  HubCache cache(folder.path());
  store(cache, kSha256, "hello");
  store(cache, kGit, "hello");
  for (const char* path : {"a/file", "copy"}) cache.link(kModel, kCommit, path, kSha256);
  cache.link(kModel, kCommit, "a/other", kGit);
  EXPECT_TRUE(cache.has_sound_blob(kModel, kSha256));
  cache.remove_blob(kModel, kSha256);
  EXPECT_FALSE(cache.has_sound_blob(kModel, kSha256));
  for (const char* path : {"a/file", "copy"}) EXPECT_FALSE(fs::is_symlink(cache.snapshot(kModel, kCommit) / path)) << path;
  EXPECT_TRUE(cache.find(kModel, kCommit, "a/other"));
}

TEST(HubCacheTest, LinksAndRefsAreThoseOfTheHubsOwnClient) {
  const TemporaryFolder folder;
  HubCache cache(folder.path());
  store(cache, kSha256, "hello");
  const fs::path place = cache.link(kModel, kCommit, "a/b/file", kSha256);
  EXPECT_EQ(place, folder / "models--org--name/snapshots" / kCommit / "a/b/file");
  EXPECT_EQ(fs::read_symlink(place), "../../../../blobs/" + kSha256);
  EXPECT_EQ(cache.link(kModel, kCommit, "a/b/file", kSha256), place);  // again
  cache.write_ref(kModel, "refs/pr/1", kCommit);
  EXPECT_EQ(read_file(folder / "models--org--name/refs/refs/pr/1"), kCommit);  // no newline
  EXPECT_EQ(cache.commit_of(kModel, "refs/pr/1"), kCommit);
  EXPECT_EQ(cache.commit_of(kModel, kCommit), kCommit);
  EXPECT_EQ(cache.commit_of(kModel, "main"), std::nullopt);
  EXPECT_EQ(cache.find(kModel, kCommit, "a/b/file"), place);
  EXPECT_EQ(cache.find(kModel, kCommit, "other"), std::nullopt);
}

TEST(HubCacheTest, ADamagedContentCountsAsMissing) {
  const TemporaryFolder folder;
  HubCache cache(folder.path());
  store(cache, kSha256, "hullo");
  cache.link(kModel, kCommit, "file", kSha256);
  EXPECT_FALSE(cache.has_sound_blob(kModel, kSha256));
  EXPECT_EQ(cache.find(kModel, kCommit, "file"), std::nullopt);
}

TEST(HubCacheTest, AContentInTheSharedStoreIsReadThroughItsLinkAndNeverWritten) {
  const TemporaryFolder folder;
  HubCache cache(folder.path());
  cache.prepare(kModel);
  write_file(folder / "shared", "hullo");
  fs::create_symlink("../../shared", cache.blob(kModel, kSha256));
  EXPECT_FALSE(cache.has_sound_blob(kModel, kSha256));
  PartialFile file(folder / "part", kSha256, 5);
  file.append("hello");
  file.keep_as(cache.blob(kModel, kSha256));
  EXPECT_TRUE(cache.has_sound_blob(kModel, kSha256));
  EXPECT_EQ(read_file(folder / "shared"), "hullo");
}

}  // namespace
}  // namespace echo
