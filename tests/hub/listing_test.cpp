#include "hub/listing.h"

#include <gtest/gtest.h>

#include "tests/hub/scripted_server.h"
#include "tests/test_support.h"

namespace echo {
namespace {

const HubRepository kDataset{true, "org/name"};
const std::string kCommit(40, 'a'), kGit(40, '1'), kSha256(64, '2');

std::vector<ListedFile> list(const std::string& endpoint, const std::string& folder = "") {
  HubSettings settings;
  settings.endpoint = endpoint;
  HubClient client(settings, {});
  return list_files(client, kDataset, kCommit, folder, "hf://datasets/org/name");
}

std::string row(const std::string& path) {
  return concat(R"({"type": "file", "oid": ")", kGit, R"(", "size": 3, "path": ")", path, R"("})");
}

TEST(HubListingTest, PagesAreFollowedAndRowsSorted) {
  const ScriptedServer hub([](const std::string& path) {
    if (path.find("cursor") != path.npos)
      return http_answer(200, "",
                         concat(R"([{"type": "file", "oid": "pointer", "size": 9, "path": "f/a", "lfs": {"oid": ")", kSha256,
                                R"(", "size": 9, "pointerSize": 130}}])"));
    return http_answer(200, "Link: </api/next?cursor=1>; rel=\"next\"\r\n",
                       "[{\"type\": \"directory\", \"path\": \"f\", \"size\": 0}," + row("f/b") + "]");
  });
  const auto files = list(hub.url(), "f/g");
  ASSERT_EQ(files.size(), 2u);
  EXPECT_EQ(files[0].path, "f/a");
  EXPECT_EQ(files[0].etag, kSha256);
  EXPECT_EQ(files[0].size, 9);
  EXPECT_EQ(files[1].etag, kGit);
  expect_contains(hub.requests()[0],
                  concat("GET /api/datasets/org/name/tree/", kCommit, "/f%2Fg?recursive=true&expand=false&limit=1000 "));
}

TEST(HubListingTest, APathThatLeadsOutOfTheFolderIsRefused) {
  for (const char* path : {"../x", "/x", "a/../../x", "a//b", ""}) {
    const ScriptedServer hub([&](const std::string&) { return http_answer(200, "", "[" + row(path) + "]"); });
    expect_contains(error_message(ExitCode::unavailable, [&] { list(hub.url()); }), "unusable row");
  }
}

TEST(HubListingTest, ARepeatedPageOrPathIsRefused) {
  const ScriptedServer loop(
      [](const std::string&) { return http_answer(200, "Link: </api/next?cursor=1>; rel=\"next\"\r\n", "[]"); });
  expect_contains(error_message(ExitCode::unavailable, [&] { list(loop.url()); }), "repeats a page");
  const ScriptedServer twice([](const std::string&) { return http_answer(200, "", "[" + row("a") + "," + row("a") + "]"); });
  expect_contains(error_message(ExitCode::unavailable, [&] { list(twice.url()); }), "names a twice");
}

TEST(HubListingTest, TheNextPageIsAtTheSameServer) {
  const std::string mirror = "https://mirror.example/hf";
  EXPECT_EQ(next_page("", mirror), "");
  EXPECT_EQ(next_page("<https://x.example/a>; rel=\"other\"", mirror), "");
  EXPECT_EQ(next_page("<https://mirror.example/hf/api?cursor=1>; rel=\"next\"", mirror),
            "https://mirror.example/hf/api?cursor=1");
  EXPECT_EQ(next_page("<https://x.example/a>; rel=\"other\", <https://huggingface.co/api?c=1>; rel=\"next\"", mirror),
            "https://mirror.example/hf/api?c=1");
  for (const char* link :
       {"<https://x.example/a?c=1>; rel=\"next\"", "<http://mirror.example/hf/a>; rel=\"next\"", "a; rel=\"next\""})
    error_message(ExitCode::unavailable, [&] { next_page(link, mirror); });
}

}  // namespace
}  // namespace echo
