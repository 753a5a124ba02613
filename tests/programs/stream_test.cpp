// ./train with data that streams in from a stand-in for the hub, with and without faults. It must give the bits of the same
// files on this machine.
#include <gtest/gtest.h>
#include <omp.h>

#include <atomic>
#include <thread>

#include "base/file.h"
#include "communication/thread_ranks.h"
#include "data/data_manifest.h"
#include "data/shuffle.h"
#include "data/synthetic_source.h"
#include "data/zstd_writer.h"
#include "tests/hub/scripted_server.h"
#include "tests/programs/stand_in_hub.h"
#include "tests/training/tiny_run.h"
#include "training/run_folder.h"
#include "training/trainer.h"
#include "training/training_checkpoint.h"

namespace echo {
namespace {

using nlohmann::json;

constexpr const char* kData = "hf://datasets/example-org/stories";
constexpr int kShards = 12;

std::string shard_path(int64_t number) {
  return concat("train/chunk", number % 2 + 1, "/example_train_", number, ".jsonl.zst");
}

// Stories number `first` to `first + count - 1` as a compressed file of lines.
void write_shard(const fs::path& file, uint64_t first, uint64_t count) {
  std::string lines;
  for (uint64_t i = first; i < first + count; ++i) lines += json{{"text", make_story(3, i)}}.dump() + "\n";
  fs::create_directories(file.parent_path());
  write_file(file, compress_zstd(lines));
}

// A failure that no retry mends.
const json kGone = {{"route", "resolve"}, {"fault", {{"kind", "status"}, {"status", 410}}}};

// A rule of the stand-in about one shard.
json rule(int64_t shard, json more) {
  json made = {{"path", "dataset:example-org/stories/" + shard_path(shard)}};
  made.update(more);
  return made;
}

class StreamTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto program = find_program("train");
    if (!program) GTEST_SKIP() << kNotBuilt;
    program_ = *program;
    const auto files = find_stand_in();
    if (!files) GTEST_SKIP() << kNoStandIn;
    for (int n = 0; n < kShards; ++n) write_shard(folder_ / "corpus" / shard_path(n), uint64_t(n) * 2, 2);
    write_shard(folder_ / "corpus/validation/chunk1/example_holdout_0.jsonl.zst", 1000, 8);
    write_shard(folder_ / "other.zst", 500, 2);
    const json repository = {{"type", "dataset"},
                             {"id", "example-org/stories"},
                             {"path", (folder_ / "corpus").string()},
                             {"commits", {{{"files", {{shard_path(3), (folder_ / "other.zst").string()}}}}}},
                             {"refs", {{"main", 0}, {"next", 1}}}};
    hub_ = std::make_unique<StandInHub>(
        *files, json{{"repos", {repository, {{"type", "dataset"}, {"id", "example-org/many"}, {"path", many().string()}}}},
                     {"tokens", {{"hf_reader", "*"}}}});
  }
  void TearDown() override {
    if (!hub_) return;
    EXPECT_EQ(hub_->control()["leaks"], json::array()) << "requests with the token to another server";
  }
  // A data set of more and smaller shards.
  fs::path many() const {
    for (int n = 0; n < 40; ++n) write_shard(folder_ / concat("many/part_", n, ".jsonl.zst"), uint64_t(n), 1);
    return folder_ / "many";
  }
  // A run that reads each shard at least once.
  TrainConfig config(const std::string& name, const PathList& data) const {
    TrainConfig made = tiny_pretraining(folder_ / name);
    made.data.path = data;
    made.data.shuffle_tokens = 256;
    made.data.max_skipped_shards = 0;
    made.max_steps = 80;
    made.save_steps = 20;
    made.report = false;
    return made;
  }
  fs::path home_of(const TrainConfig& made) const { return made.output_dir + "_home"; }  // of a machine of its own
  std::map<std::string, std::string> environment(const fs::path& home) const {
    auto variables = hub_environment(hub_->endpoint(), home);
    variables["HF_TOKEN"] = "hf_reader";
    variables["HF_HUB_ETAG_TIMEOUT"] = variables["HF_HUB_DOWNLOAD_TIMEOUT"] = "1";
    return variables;
  }
  ProgramResult train(const TrainConfig& made, std::vector<std::string> more = {}, ProgramOptions options = {}) const {
    options.environment = environment(home_of(made));
    more.insert(more.begin(), written(made, made.output_dir + ".yaml"));
    return run_executable(program_, more, options);
  }
  // Runs to the end, and expects success.
  ProgramResult finish(const TrainConfig& made, const std::vector<std::string>& more = {}) const {
    ProgramResult result = train(made, more);
    EXPECT_EQ(result.exit_code, 0) << result.errors;
    return result;
  }
  void finish_local(const std::string& name) const { finish(config(name, folder_ / "corpus")); }
  // Weights, moments and logged values of two runs are equal. Their checkpoints name their data differently.
  void expect_same_bits(const std::string& a, const std::string& b) const {
    for (const std::string& difference : differences(folder_ / a, folder_ / b))
      EXPECT_NE(difference.find(": states "), std::string::npos) << difference;
    EXPECT_TRUE(fs::exists(folder_ / b / "final/model.safetensors"));
  }
  std::vector<json> log_lines(const std::string& name, const std::string& event) const {
    std::vector<json> lines;
    for (const json& line : TrainingLog::read(folder_ / name / "trainer_log.jsonl"))
      if (line["event"] == event) lines.push_back(line);
    return lines;
  }
  // Trains in this process, as ./train does. Stops after some steps, if that is given. Returns what was printed.
  std::string train_here(const TrainConfig& made, int64_t stop_after = -1,
                         const std::shared_ptr<Communicator>& ranks = std::make_shared<SingleProcess>()) const {
    omp_set_num_threads(1);
    std::string said;
    const ResolvedInputs inputs = resolve_inputs_together(made, *ranks, [&](const std::string& line) { said += line + "\n"; });
    std::unique_ptr<RunRecorder> recorder = std::make_unique<RunRecorder>();
    SetupOptions setup;
    setup.communicator = ranks;
    if (ranks->is_first()) {
      auto folder = std::make_unique<RunFolder>(made, RunDisplay{[&](const std::string& line) { said += line + "\n"; }, {}});
      setup.checkpoint = folder->checkpoint_to_resume();
      recorder = std::move(folder);
    }
    TrainingRun run = prepare_run(made, inputs, setup);
    const TrainingState* state = nullptr;
    Trainer trainer(run, *recorder, [&] { return state->step == stop_after; });
    state = &trainer.state();
    if (setup.checkpoint) trainer.resume(*setup.checkpoint);
    if (stop_after < 0)
      trainer.train();
    else
      error_message(ExitCode::interrupted, [&] { trainer.train(); });
    return said;
  }
  // The environment of a machine, for train_here.
  class Machine {
   public:
    explicit Machine(const std::map<std::string, std::string>& variables) {
      for (const auto& [name, value] : variables) set_.push_back(std::make_unique<ScopedEnvironment>(name.c_str(), value));
    }

   private:
    std::vector<std::unique_ptr<ScopedEnvironment>> set_;
  };
  // The shard that a run opens first.
  int64_t first_shard() const {
    std::vector<std::string> paths;
    for (int n = 0; n < kShards; ++n) paths.push_back(shard_path(n));
    std::sort(paths.begin(), paths.end());
    const std::string& first = paths[size_t(file_order(kShards, uint64_t(TrainConfig().seed), 0)[0])];
    return std::stoll(first.substr(first.rfind('_') + 1));
  }

  const std::unique_ptr<TemporaryFolder> memory_ = memory_folder();
  const fs::path folder_ = memory_->path();
  fs::path program_;
  std::unique_ptr<StandInHub> hub_;
};

TEST_F(StreamTest, ShardsThatArriveWithEveryKindOfFaultGiveTheBitsOfLocalFiles) {
  finish_local("local");
  const json faults = {
      rule(0, {{"server", "cdn"}, {"nth", 1}, {"fault", {{"kind", "close"}, {"after", 0.5}}}}),
      rule(1, {{"server", "cdn"}, {"nth", 1}, {"fault", {{"kind", "close"}, {"after", 0.7}, {"reset", true}}}}),
      rule(2, {{"server", "cdn"}, {"nth", 1}, {"fault", {{"kind", "flip"}, {"at", 77}, {"bit", 3}}}}),
      rule(3, {{"route", "resolve"}, {"to", 2}, {"fault", {{"kind", "status"}, {"status", 503}}}}),
      rule(4, {{"route", "resolve"}, {"nth", 1}, {"fault", {{"kind", "status"}, {"status", 429}, {"retry_after", 1}}}}),
      rule(5, {{"server", "cdn"}, {"nth", 1}, {"fault", {{"kind", "expired"}}}}),
      rule(6, {{"server", "cdn"}, {"nth", 1}, {"fault", {{"kind", "truncate"}, {"to", 0.3}}}}),
      rule(7, {{"server", "cdn"}, {"nth", 1}, {"fault", {{"kind", "gzip"}, {"length", "none"}}}}),
      rule(8, {{"server", "cdn"}, {"nth", 1}, {"fault", {{"kind", "html"}, {"status", 200}}}}),
      rule(9, {{"server", "cdn"}, {"nth", 1}, {"fault", {{"kind", "drop"}}}}),
      rule(10, {{"server", "cdn"}, {"nth", 1}, {"fault", {{"kind", "stall"}, {"at", 100}, {"seconds", 9}}}}),
      rule(11, {{"route", "resolve"}, {"nth", 1}, {"fault", {{"kind", "refuse"}}}}),
  };
  hub_->control({{"rules", faults}});
  finish(config("streamed", kData));
  expect_same_bits("local", "streamed");
  const json rules = hub_->control()["rules"];
  EXPECT_EQ(rules.size(), faults.size());
  for (const json& fired : rules) EXPECT_GT(fired["fired"], 0) << fired;
}

TEST_F(StreamTest, KilledAtAnyMomentARunGoesOnAndFetchesNoShardAgainThatItHas) {
  finish_local("local");
  const TrainConfig made = config("killed", kData);
  for (const int milliseconds : {60, 120, 180, 240, 300, 360}) {
    ProgramOptions options;
    options.signal_after = std::chrono::milliseconds(milliseconds);
    train(made, {}, options);
  }
  finish(made);
  expect_same_bits("local", "killed");
  const json files = hub_->control()["files"];
  EXPECT_GT(files.size(), 0u);
  for (const auto& [file, record] : files.items()) EXPECT_EQ(record["again_bytes"], 0) << file;
}

TEST_F(StreamTest, TheCommitIsPinnedWhenMainMoves) {
  finish_local("local");
  const TrainConfig made = config("pinned", kData);
  const std::map<std::string, std::string> variables = environment(home_of(made));
  const Machine machine(variables);
  train_here(made, 40);
  const DataManifest pinned = data_manifest_from_text(read_file(folder_ / "pinned" / kDataManifest), "manifest");
  ASSERT_EQ(pinned.sources.size(), 1u);
  EXPECT_EQ(pinned.sources[0].files.size(), size_t(kShards) + 1);
  EXPECT_EQ(pinned.sources[0].files[2].path, shard_path(4)) << "in the order of the numbers";
  const json manifest = verified_manifest(folder_ / "pinned/checkpoint-40");
  EXPECT_EQ(manifest["state"]["data"]["manifest"], pinned.hash());
  EXPECT_EQ(manifest["state"]["data"]["commits"][0]["commit"], pinned.sources[0].commit);

  hub_->control({{"move_ref", {{"repo", "dataset:example-org/stories"}, {"ref", "main"}, {"commit", 1}}}});
  fs::remove_all(home_of(made));
  hub_->control({{"log", "reset"}});
  expect_contains(train_here(made), "data pinned to " + pinned.sources[0].commit.substr(0, 7) + ", main is now ");
  for (const json& request : hub_->control({}, "?log=1")) EXPECT_NE(request["route"], "tree") << "no listing again";
  expect_same_bits("local", "pinned");

  TrainConfig other = made;
  other.data.path = std::string(kData) + "@next";
  expect_contains(error_message(ExitCode::config, [&] { train_here(other); }), "stories@next");
  fs::remove(folder_ / "pinned" / kDataManifest);  // now main is asked again
  expect_contains(error_message(ExitCode::config, [&] { train_here(made); }), pinned.sources[0].commit);
}

TEST_F(StreamTest, AShardThatFailsForGoodIsSkippedWithinTheBudgetAndStaysSkipped) {
  const std::string name = std::string(kData) + "/" + shard_path(first_shard());
  hub_->control({{"rules", {rule(first_shard(), kGone)}}});
  TrainConfig made = config("none", kData);
  const Machine machine(environment(folder_ / "home"));
  const std::string refused = error_message(ExitCode::unavailable, [&] { train_here(made); });
  for (const std::string& part :
       {shard_path(first_shard()), std::string("answers 410"), std::string("data.max_skipped_shards is 0")})
    expect_contains(refused, part);

  made = config("whole", kData);
  made.data.max_skipped_shards = 1;
  expect_contains(train_here(made), name + " was skipped, number 1 of at most 1");
  ASSERT_EQ(log_lines("whole", "skipped_file").size(), 1u);
  EXPECT_EQ(log_lines("whole", "skipped_file")[0]["file"], name);

  made.output_dir = folder_ / "resumed";
  train_here(made, 20);
  hub_->control({{"clear", true}});  // now it could be fetched
  train_here(made);
  EXPECT_EQ(differences(folder_ / "whole", folder_ / "resumed"), std::vector<std::string>{});
}

TEST_F(StreamTest, AStopIsObeyedWhileNoDataComes) {
  finish_local("local");
  const json away = {
      {"route", "resolve"}, {"path", "dataset:example-org/stories/train/*"}, {"fault", {{"kind", "status"}, {"status", 503}}}};
  hub_->control({{"rules", {away}}});
  TrainConfig made = config("waiting", kData);
  // Held-out text is read before the first step. From the hub it could wait until the transfers of training text give up.
  made.data.validation_path = PathList(folder_ / "corpus/validation");
  const Machine machine(environment(home_of(made)));
  const auto start = std::chrono::steady_clock::now();
  train_here(made, 0);  // asked before the first rows are here
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(8)) << "the attempts alone take 15 seconds";
  EXPECT_TRUE(fs::exists(folder_ / "waiting/checkpoint-0"));
  hub_->control({{"clear", true}});
  train_here(made);
  fs::remove_all(folder_ / "waiting/checkpoint-0");
  expect_same_bits("local", "waiting");
}

TEST_F(StreamTest, TheDiskNeverHoldsMoreThanItsBound) {
  int64_t largest = 0, total = 0;
  for (const auto& entry : fs::directory_iterator(folder_ / "many")) {
    largest = std::max(largest, int64_t(entry.file_size()));
    total += int64_t(entry.file_size());
  }
  TrainConfig made = config("bounded", "hf://datasets/example-org/many/*.zst");
  const int64_t bound = 13 * largest + 1;
  ASSERT_GT(total, 2 * bound);
  made.data.validation_path = PathList(folder_ / "corpus/validation");
  made.data.cache_folder = folder_ / "shards";
  made.data.cache_gib = double(bound) / double(1 << 30);
  std::atomic<bool> ended = false;
  int64_t most = 0;
  std::thread watch([&] {
    while (!ended) {
      int64_t bytes = 0;
      std::error_code ignored;
      for (const auto& entry : fs::directory_iterator(folder_ / "shards/datasets--example-org--many/blobs", ignored))
        bytes += int64_t(entry.file_size(ignored) + 1) > 0 ? int64_t(entry.file_size(ignored)) : 0;  // -1: just removed
      most = std::max(most, bytes);
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  });
  {
    const Machine machine(environment(home_of(made)));
    train_here(made);
  }
  ended = true;
  watch.join();
  EXPECT_LE(most, bound);
  EXPECT_GT(most, 8 * largest / 2);
  made.data.path = PathList(folder_ / "many");
  made.output_dir = folder_ / "unbounded";
  train_here(made);
  expect_same_bits("unbounded", "bounded");
  made.data.path = "hf://datasets/example-org/many";
  made.data.cache_gib = double(largest) / double(1 << 30);
  const Machine machine(environment(home_of(made)));
  expect_contains(error_message(ExitCode::config, [&] { train_here(made); }), "data.cache_gib");
}

TEST_F(StreamTest, TwoRanksOfAMachineListOnceAndFetchEachShardOnce) {
  TrainConfig made = config("ranks", kData);
  made.gradient_accumulation_steps = 1;
  const Machine machine(environment(home_of(made)));
  run_thread_ranks(2, [&](const std::shared_ptr<Communicator>& ranks) { train_here(made, -1, ranks); });
  int64_t commits = 0;
  for (const json& request : hub_->control({}, "?log=1")) commits += request["route"] == "info";
  EXPECT_EQ(commits, 1);
  const json files = hub_->control()["files"];
  EXPECT_GT(files.size(), 0u);
  for (const auto& [file, record] : files.items()) EXPECT_EQ(record["requests"], 1) << file;
  made.output_dir = folder_ / "local";
  made.data.path = PathList(folder_ / "corpus");
  run_thread_ranks(2, [&](const std::shared_ptr<Communicator>& ranks) { train_here(made, -1, ranks); });
  expect_same_bits("local", "ranks");
}

TEST_F(StreamTest, RanksThatReadDifferentShardsStopBeforeTheySaveThat) {
  TrainConfig made = config("ranks", kData);
  const Machine machine(environment(home_of(made)));
  made.data.cache_folder = folder_ / "full";
  made.data.max_skipped_shards = 1;
  train_here(made);
  fs::remove_all(made.output_dir);
  hub_->control({{"rules", {rule(first_shard(), kGone)}}});
  made.gradient_accumulation_steps = 1;
  const std::string message = error_message(ExitCode::unavailable, [&] {
    run_thread_ranks(2, [&](const std::shared_ptr<Communicator>& ranks) {
      TrainConfig own = made;  // only the second rank has the shard
      if (ranks->is_first()) own.data.cache_folder = folder_ / "empty";
      train_here(own, -1, ranks);
    });
  });
  expect_contains(message, "process 1 and process 0 have read different data");
  EXPECT_FALSE(search_checkpoints(folder_ / "ranks").newest);
}

TEST_F(StreamTest, WhatARunWouldReadIsListedWithoutFetchingIt) {
  const ProgramResult result = finish(config("listed", kData), {"--list-data"});
  const auto size = std::to_string(fs::file_size(folder_ / "corpus" / shard_path(11)));
  for (const std::string& part : {std::string("is at commit "), size + "  hf://datasets/example-org/stories/" + shard_path(11),
                                  concat("training: ", kShards, " files, "), std::string("held out: 1 file, ")})
    expect_contains(result.output, part);
  EXPECT_EQ(hub_->control()["files"], json::object());
  EXPECT_FALSE(fs::exists(folder_ / "listed"));
}

TEST_F(StreamTest, OfflineARunReadsWhatWasDownloadedBefore) {
  const auto download = find_program("download");
  if (!download) GTEST_SKIP() << kNotBuilt;
  finish_local("local");
  const TrainConfig made = config("offline", kData);
  ProgramOptions options;
  options.environment = environment(home_of(made));
  ASSERT_EQ(run_executable(*download, {kData}, options).exit_code, 0);
  auto variables = environment(home_of(made));
  variables["HF_HUB_OFFLINE"] = "1";
  variables["HF_ENDPOINT"] = "http://127.0.0.1:9";  // nobody listens there
  const Machine machine(variables);
  expect_contains(train_here(made), "offline; taking the files that the cache has");
  expect_same_bits("local", "offline");
  EXPECT_FALSE(fs::exists(home_of(made) / "echoatt")) << "nothing is copied";
  TrainConfig missing = config("missing", "hf://datasets/example-org/many");
  const std::string message = error_message(ExitCode::input_missing, [&] { train_here(missing); });
  for (const char* part : {"data.path", "HF_HUB_OFFLINE", "./download hf://datasets/example-org/many", "data.path=PATH"})
    expect_contains(message, part);
}

TEST_F(StreamTest, ListsMixAddressesOfAnyServerWithFilesHere) {
  std::map<std::string, std::string> contents;
  for (const int n : {0, 2}) contents[concat("/", n, ".jsonl.zst")] = read_file(folder_ / "corpus" / shard_path(n));
  ScriptedServer server([&](const std::string& path) {
    return contents.contains(path) ? http_answer(200, "ETag: \"1\"\r\n", contents[path]) : http_answer(404, "");
  });
  PathList mixed, local;
  mixed.entries = {server.url() + "/0.jsonl.zst", (folder_ / "corpus" / shard_path(1)).string(), server.url() + "/2.jsonl.zst",
                   std::string(kData) + "/" + shard_path(3)};
  for (const int n : {0, 1, 2, 3}) local.entries.push_back((folder_ / "corpus" / shard_path(n)).string());
  const Machine machine(environment(folder_ / "home"));
  for (TrainConfig made : {config("mixed", mixed), config("local", local)}) {
    made.data.validation_path = PathList(folder_ / "corpus/validation");
    train_here(made);
  }
  const auto losses = [&](const std::string& name) {
    std::vector<double> all;
    for (const json& line : log_lines(name, "train")) all.push_back(line["loss"]);
    return all;
  };
  EXPECT_EQ(losses("mixed"), losses("local"));
  TrainConfig missing = config("missing", server.url() + "/7.jsonl");
  expect_contains(error_message(ExitCode::input_missing, [&] { train_here(missing); }), "/7.jsonl: not found");
}

}  // namespace
}  // namespace echo
