// ./download against a stand-in for the hub, with faults on demand. The stand-in and its judge are Python programs of the
// shared folder. They also check that no token reaches another server, and that the cache holds no wrong content.
#include "hub/download.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "tests/faults/failpoints.h"
#include "tests/programs/program_support.h"
#include "tests/programs/stand_in_hub.h"
#include "tests/test_support.h"
#include "tests/training/tiny_run.h"

namespace echo {
namespace {

using nlohmann::json;

#define NEED_STAND_IN()                          \
  const auto program = find_program("download"); \
  if (!program) GTEST_SKIP() << kNotBuilt;       \
  const auto stand_in = find_stand_in();         \
  if (!stand_in) GTEST_SKIP() << kNoStandIn;     \
  [[maybe_unused]] const fs::path& shared = stand_in->shared

// A stand-in with the repositories of the golden layout.
StandInHub golden_hub(const StandInFiles& files) {
  return StandInHub(files, json::parse(read_file(files.shared / "golden/hub_cache_layout.json"))["hub"]);
}

// Runs these cases, a few at once because most of their time is waiting, and expects that all of them pass. The first ones
// should be the longest.
void expect_cases_pass(const std::vector<std::string>& names, const std::vector<std::string>& judge, const fs::path& program) {
  std::atomic<size_t> next = 0;
  std::vector<std::string> said(names.size());
  const auto work = [&] {
    for (size_t i; (i = next++) < names.size();) {
      std::vector<std::string> arguments(judge.begin() + 1, judge.end());
      for (const std::string& more :
           {std::string("--only"), names[i], std::string("--command"), "'" + program.string() + "' {uri} --output {output}"})
        arguments.push_back(more);
      const ProgramResult result = run_executable(judge[0], arguments);
      said[i] = result.output + result.errors;
      if (result.exit_code == 0 && said[i].find("\n1 passed, 0 failed") != std::string::npos) said[i].clear();
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < names.size(); ++i) EXPECT_EQ(said[i], "") << names[i];
}

TEST(DownloadTest, EveryFaultOfTheSharedCasesEndsAsTheProtocolSays) {
  NEED_STAND_IN();
  expect_cases_pass({"503 for ever", "sign-in page of a network", "429 with Retry-After", "one byte a second",
                     "killed in the middle, run again", "signature expires after a cut", "bit flipped always",
                     "bit flipped once", "contents and ETag change between two parts", "cut at 1,234,567 bytes",
                     "cut, then the range is ignored", "no fault", "small file", "gated without a token", "missing file"},
                    {stand_in->python.string(), (shared / "tools/hub_cases.py").string()}, *program);
}

TEST(DownloadTest, EveryFaultOfOurOwnCasesEndsAsTheProtocolSays) {
  NEED_STAND_IN();
  const fs::path cases = fs::absolute("tests/programs/download_cases.json");
  if (!fs::exists(cases)) GTEST_SKIP() << "not in the project's folder";
  std::vector<std::string> names;
  for (const json& row : json::parse(read_file(cases))) names.push_back(row["name"]);
  expect_cases_pass(names, {stand_in->python.string(), (shared / "tools/hub_cases.py").string(), "--cases", cases.string()},
                    *program);
}

// ./download, or another program that fetches, with a cache of its own.
class Downloader {
 public:
  Downloader(const fs::path& program, const std::string& endpoint, const fs::path& home) : program_(program) {
    options_.environment = hub_environment(endpoint, home);
  }
  void set(const std::string& name, const std::string& value) { options_.environment[name] = value; }
  // Runs in this folder, where no model or shared folder is found.
  void work_in(const fs::path& folder) {
    options_.folder = folder;
    options_.environment["ECHOATT_SHARED"] = "";
  }
  ProgramResult run(const std::vector<std::string>& arguments) const { return run_executable(program_, arguments, options_); }

  // Expects success, and returns the path that it prints.
  fs::path fetch(const std::vector<std::string>& arguments) const {
    const ProgramResult result = run(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.errors;
    return result.output.substr(0, result.output.find('\n'));
  }

 private:
  fs::path program_;
  ProgramOptions options_;
};

// Every entry of a cache, in the form of the golden file, without what the hub's own client adds for itself.
json layout_of(const fs::path& cache) {
  json entries;
  for (const auto& entry : fs::recursive_directory_iterator(cache)) {
    const std::string name = entry.path().lexically_relative(cache).string();
    json& described = entries[name];
    if (entry.is_symlink())
      described = {{"kind", "link"}, {"target", fs::read_symlink(entry.path()).string()}};
    else if (entry.is_directory())
      described = {{"kind", "folder"}};
    else
      described = {{"kind", "file"}, {"size", entry.file_size()}};
    if (name.find("/refs/") != std::string::npos && described["kind"] == "file") described["text"] = read_file(entry.path());
  }
  return entries;
}

json golden_layout(const json& golden) {
  json entries;
  for (const auto& [name, row] : golden["final"].items()) {
    if (name.find("/trees") != std::string::npos || name.find("/.no_exist") != std::string::npos) continue;
    json& described = entries[name];
    for (const char* key : {"kind", "target", "size"})
      if (row.contains(key)) described[key] = row[key];
    if (name.find("/refs/") != std::string::npos && row.contains("text")) described["text"] = row["text"];
  }
  return entries;
}

TEST(DownloadTest, TheCacheIsLaidOutLikeThatOfTheHubsOwnClient) {
  NEED_STAND_IN();
  const TemporaryFolder home;
  const StandInHub hub = golden_hub(*stand_in);
  const Downloader download(*program, hub.endpoint(), home.path());
  const json golden = json::parse(read_file(shared / "golden/hub_cache_layout.json"));
  const std::string model = "hf://example-org/stories260K", data = "hf://datasets/example-org/slimpajama-sample";
  download.fetch({model + "@v1.0/config.json"});
  download.fetch({model + "@" + golden["repos"]["model:example-org/stories260K"]["main"].get<std::string>() + "/config.json"});
  const fs::path folder = download.fetch({model});
  EXPECT_EQ(folder.parent_path(), home / "hub/models--example-org--stories260K/snapshots");
  EXPECT_TRUE(fs::exists(folder / "tokenizer.model"));
  download.fetch({model + "@refs/pr/1/README.md"});
  download.fetch({data + "/train/chunk1/example_train_0.jsonl.zst"});
  download.fetch({data});
  json ours = layout_of(home / "hub"), theirs = golden_layout(golden);
  ours["CACHEDIR.TAG"].erase("size");  // its second line is a comment
  theirs["CACHEDIR.TAG"].erase("size");
  EXPECT_EQ(json::diff(theirs, ours), json::array());
}

TEST(DownloadTest, AFolderIsCopiedToAFolderAndAFileIntoOne) {
  NEED_STAND_IN();
  const TemporaryFolder home;
  const StandInHub hub = golden_hub(*stand_in);
  const Downloader download(*program, hub.endpoint(), home / "cache");
  const std::string data = "hf://datasets/example-org/slimpajama-sample";
  const fs::path sample = shared / "corpora/slimpajama_sample";
  EXPECT_EQ(download.fetch({data + "/train", "--output", (home / "train").string()}), home / "train");
  for (const char* file : {"chunk1/example_train_0.jsonl.zst", "chunk2/example_train_1.jsonl.zst"})
    EXPECT_EQ(read_file(home / "train" / file), read_file(sample / "train" / file)) << file;
  EXPECT_FALSE(fs::exists(home / "train/validation"));
  EXPECT_EQ(download.fetch({data + "/validation/chunk1/example_holdout_0.jsonl.zst", "--output", home.path().string()}),
            home / "example_holdout_0.jsonl.zst");
  EXPECT_FALSE(fs::is_symlink(home / "example_holdout_0.jsonl.zst"));
  expect_failure(download.run({data + "/train", "--output", (home / "example_holdout_0.jsonl.zst").string()}), ExitCode::io,
                 {"is a file"});
}

TEST(DownloadTest, OfflineAFolderComesFromTheCacheOrIsNamedAsMissing) {
  NEED_STAND_IN();
  const TemporaryFolder home;
  Downloader download(*program, "http://127.0.0.1:9", home.path());  // nobody listens there
  download.set("HF_HUB_OFFLINE", "1");
  expect_failure(download.run({"hf://example-org/stories260K"}), ExitCode::input_missing,
                 {"hf://example-org/stories260K", "HF_HUB_OFFLINE", home.path().string()});
  const StandInHub hub = golden_hub(*stand_in);
  const fs::path folder = Downloader(*program, hub.endpoint(), home.path()).fetch({"hf://example-org/stories260K"});
  EXPECT_EQ(download.fetch({"hf://example-org/stories260K"}), folder);
}

TEST(DownloadTest, AProgramFetchesAModelByNameAndFindsItAgainOffline) {
  NEED_STAND_IN();
  const auto generate = find_program("generate");
  if (!generate) GTEST_SKIP() << kNotBuilt;
  const TemporaryFolder home;
  const StandInHub hub = golden_hub(*stand_in);
  Downloader model(*generate, hub.endpoint(), home / "cache");
  model.work_in(home.path());
  const std::vector<std::string> arguments = {"--model", "example-org/stories260K", "--prompt",
                                              "Once",    "--max-new-tokens",        "4"};
  const ProgramResult fetched = model.run(arguments);
  EXPECT_EQ(fetched.exit_code, 0) << fetched.errors;
  EXPECT_NE(fetched.errors.find("fetching"), std::string::npos) << fetched.errors;
  const fs::path repository = home / "cache/hub/models--example-org--stories260K";
  EXPECT_FALSE(fs::exists(repository / "snapshots" / read_file(repository / "refs/main") / "README.md"));  // nobody reads it
  const std::string text = fetched.output;
  model.set("HF_HUB_OFFLINE", "1");
  const ProgramResult offline = model.run(arguments);
  EXPECT_EQ(offline.exit_code, 0) << offline.errors;
  EXPECT_EQ(offline.output, text);
  expect_failure(model.run({"--model", "example-org/other", "--prompt", "Once"}), ExitCode::input_missing,
                 {"example-org/other", "HF_HUB_OFFLINE=0 ./download hf://example-org/other"});
  model.set("HF_HUB_OFFLINE", "");
  model.set("HF_ENDPOINT", "http://127.0.0.1:9");  // nobody listens there
  const ProgramResult away = model.run(arguments);
  EXPECT_EQ(away.output, text) << away.errors;
  EXPECT_NE(away.errors.find("using what the cache has"), std::string::npos) << away.errors;
  expect_failure(model.run({"--model", "hf://example-org/other", "--prompt", "Once"}), ExitCode::input_missing,
                 {"127.0.0.1:9"});
}

TEST(DownloadTest, ADownloadThatDiesAtAnyOperationOnAFileContinuesToTheSameFiles) {
  NEED_STAND_IN();
  const auto memory = memory_folder();
  const TemporaryFolder& folder = *memory;
  const StandInHub hub = golden_hub(*stand_in);
  const auto fetch = [&] {
    HubSettings settings;
    settings.endpoint = hub.endpoint();
    settings.cache = folder / "home/cache";
    HubClient client(settings, [](const std::string&) {});
    HubCache cache(settings.cache);
    const HubAddress address = parse_hub_address("hf://datasets/example-org/slimpajama-sample/train");
    copy_to(download(client, cache, address, [](int64_t, int64_t) {}), folder / "home/copy");
  };
  const Points points = points_of(folder / "home", fetch);
  EXPECT_GE(points.size(), 12u);
  // A dead process may leave a small file or a link under a temporary name in the cache. Nothing reads it, and it cannot be
  // removed, because it may belong to another process that is running.
  const auto names = [&] {
    json entries = layout_of(folder / "home");
    for (auto entry = entries.begin(); entry != entries.end();)
      entry = entry.key().find(".tmp") == std::string::npos ? std::next(entry) : entries.erase(entry);
    return entries;
  };
  const json whole = names();
  for (const auto& [point, times] : points) {
    fs::remove_all(folder / "home");
    die_at(folder / "home", point, (times + 1) / 2, fetch);
    fetch();
    EXPECT_EQ(json::diff(whole, names()), json::array()) << point;
    for (const char* file : {"chunk1/example_train_0.jsonl.zst", "chunk2/example_train_1.jsonl.zst"})
      EXPECT_EQ(read_file(folder / "home/copy" / file), read_file(shared / "corpora/slimpajama_sample/train" / file)) << point;
  }
}

TEST(DownloadTest, AWrongAddressIsAMistakeOfTheCommandLine) {
  const auto program = find_program("download");
  if (!program) GTEST_SKIP() << kNotBuilt;
  expect_failure(run_executable(*program, {"example-org/stories260K"}), ExitCode::usage, {"hf://"});
}

}  // namespace
}  // namespace echo
