#include "hub/address.h"

#include <gtest/gtest.h>

#include "tests/test_support.h"

namespace echo {
namespace {

TEST(HubAddressTest, EveryPartOfAnAddressIsRead) {
  const HubAddress model = parse_hub_address("hf://org/name");
  EXPECT_EQ(model.repository.name, "org/name");
  EXPECT_FALSE(model.repository.is_dataset);
  EXPECT_EQ(model.revision, "main");
  EXPECT_EQ(model.path, "");
  EXPECT_TRUE(model.is_folder);
  EXPECT_EQ(model.repository.folder_name(), "models--org--name");
  EXPECT_EQ(parse_hub_address("hf://models/org/name").repository.name, "org/name");

  const HubAddress file = parse_hub_address("hf://datasets/org/na-me_1.0@v1.0/train/a b@c.zst");
  EXPECT_EQ(file.repository.folder_name(), "datasets--org--na-me_1.0");
  EXPECT_EQ(file.revision, "v1.0");
  EXPECT_EQ(file.path, "train/a b@c.zst");
  EXPECT_FALSE(file.is_folder);

  const HubAddress folder = parse_hub_address("hf://datasets/org/name/train/");
  EXPECT_EQ(folder.path, "train");
  EXPECT_TRUE(folder.is_folder);
}

TEST(HubAddressTest, ARevisionWithSlashesIsEncodedExceptThoseOfRefs) {
  const HubAddress encoded = parse_hub_address("hf://org/name@feature%2Fone/config.json");
  EXPECT_EQ(encoded.revision, "feature/one");
  EXPECT_EQ(encoded.path, "config.json");
  for (const char* text : {"hf://org/name@refs/pr/1/config.json", "hf://org/name@refs%2Fpr%2F1/config.json"}) {
    EXPECT_EQ(parse_hub_address(text).revision, "refs/pr/1") << text;
    EXPECT_EQ(parse_hub_address(text).path, "config.json") << text;
  }
  EXPECT_EQ(parse_hub_address("hf://org/name@refs/convert/parquet").revision, "refs/convert/parquet");
}

TEST(HubAddressTest, TheTextOfAnAddressIsReadAsTheSameAddress) {
  for (const char* text :
       {"hf://org/name", "hf://datasets/org/name@v1/train", "hf://org/name@refs/pr/1/a", "hf://org/name@feature%2Fone/a"})
    EXPECT_EQ(parse_hub_address(text).text(), text);
}

TEST(HubAddressTest, AnAddressThatNamesNothingOrLeadsElsewhereIsRefused) {
  for (const char* text :
       {"org/name", "hf://", "hf://name", "hf://org/", "hf://org/name@", "hf://org/name@/x", "hf://or g/name", "hf://org/a--b",
        "hf://org/..", "hf://../name", "hf://org/name/../x", "hf://org/name//x", "hf://org/name/./x", "hf://spaces/org/name",
        "hf://org/name@..%2F..%2Fx/y", "hf://org/.name"})
    expect_contains(error_message(ExitCode::usage, [&] { parse_hub_address(text); }), text);
}

}  // namespace
}  // namespace echo
