#include "base/strict_json.h"

#include <gtest/gtest.h>

#include "tests/test_support.h"

namespace echo {
namespace {

TEST(StrictJsonTest, ValuesArriveUnchanged) {
  const nlohmann::json json = parse_strict_json(R"({"a": [1, {"a": "x"}, {"a": 2.5}], "b": null})", "file");
  EXPECT_EQ(json["a"][1]["a"], "x");
  EXPECT_EQ(json["a"][2]["a"], 2.5);
  EXPECT_TRUE(json["b"].is_null());
}

TEST(StrictJsonTest, AKeyGivenTwiceIsRefusedAtAnyDepth) {
  for (const char* text : {R"({"k": 1, "k": 1})", R"({"x": [{"k": 1, "y": {"k": 1}, "k": 2}]})"}) {
    const std::string message = error_message(ExitCode::bad_data, [&] { parse_strict_json(text, "config.json"); });
    expect_contains(message, "config.json: key \"k\" occurs twice");
  }
}

TEST(StrictJsonTest, DeepNestingIsRefusedBeforeItIsBuilt) {
  const std::string message =
      error_message(ExitCode::bad_data, [] { parse_strict_json(std::string(10'000'000, '['), "file"); });
  expect_contains(message, "nested deeper");
}

TEST(StrictJsonTest, WhatIsNotJsonIsRefused) {
  for (const char* text : {"", "{", "{} {}", "nul", "{\"a\": 1e999}", "\"\xff\"", "{'a': 1}"})
    EXPECT_NE(error_message(ExitCode::bad_data, [&] { parse_strict_json(text, "file"); }).find("file: is not valid JSON"),
              std::string::npos)
        << text;
}

}  // namespace
}  // namespace echo
