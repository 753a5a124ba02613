#include "data/data_manifest.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/test_support.h"

namespace echo {
namespace {

DataManifest some_manifest() {
  DataManifest manifest;
  manifest.addresses = {"hf://datasets/o/n@v1/train", ""};
  manifest.sources.push_back({{true, "o/n"}, "v1", std::string(40, 'a'), {{"train/x.jsonl", 7, std::string(64, 'b')}}});
  manifest.urls.push_back({"http://h/y.jsonl", 9, "\"1\""});
  return manifest;
}

TEST(DataManifestTest, ItReadsWhatItWroteAndItsHashFollowsEveryField) {
  const DataManifest manifest = some_manifest();
  const DataManifest read = data_manifest_from_text(manifest.text(), "m");
  EXPECT_EQ(read.text(), manifest.text());
  EXPECT_EQ(read.hash(), manifest.hash());
  EXPECT_EQ(read.pin()["commits"][0]["commit"], std::string(40, 'a'));
  DataManifest size = manifest, commit = manifest, version = manifest;
  size.sources[0].files[0].size = 8;
  commit.sources[0].commit = std::string(40, 'c');
  version.urls[0].version = "\"2\"";
  for (const DataManifest& other : {size, commit, version}) EXPECT_NE(other.hash(), manifest.hash());
}

TEST(DataManifestTest, ADamagedOneIsRefused) {
  std::string text = some_manifest().text();
  text[text.find(":7") == std::string::npos ? text.find(",7,") + 1 : text.find(":7") + 1] = '8';
  expect_contains(error_message(ExitCode::bad_data, [&] { data_manifest_from_text(text, "m"); }), "m: damaged");
  error_message(ExitCode::bad_data, [] { data_manifest_from_text("[]", "m"); });
  error_message(ExitCode::bad_data, [] { data_manifest_from_text("{\"xxh3\": 3}", "m"); });
}

TEST(DataManifestTest, NumbersInNamesCountAsNumbers) {
  std::vector<std::string> names = {"chunk10/a_1", "chunk2/a_10", "chunk2/a_2", "chunk1/b", "chunk2/a_02", "chunk1"};
  std::sort(names.begin(), names.end(), in_natural_order);
  EXPECT_EQ(names, (std::vector<std::string>{"chunk1", "chunk1/b", "chunk2/a_02", "chunk2/a_2", "chunk2/a_10", "chunk10/a_1"}));
  for (const std::string& name : names) EXPECT_FALSE(in_natural_order(name, name));
}

}  // namespace
}  // namespace echo
