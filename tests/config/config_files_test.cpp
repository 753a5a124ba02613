#include <cstdlib>
#include <fstream>
#include <optional>

#include "base/file.h"
#include "config/check.h"
#include "config/reading.h"
#include "hub/paths.h"
#include "tests/test_support.h"

namespace echo {
namespace {

TEST(ConfigFilesTest, EveryShippedConfigurationIsValidAndCommented) {
  int count = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator("configs")) {
    if (entry.path().extension() != ".yaml") continue;
    ++count;
    EXPECT_EQ(check_config(read_config(entry.path())), std::vector<std::string>{}) << entry.path();
    std::ifstream file(entry.path());
    std::string before;
    for (std::string line; std::getline(file, line); before = line) {
      const bool has_value = line.find(": ") != std::string::npos && line.find_first_not_of(' ') != line.find('#');
      if (has_value) {
        EXPECT_TRUE(line.find(" # ") != std::string::npos || before.find("# ") != std::string::npos)
            << entry.path() << ": " << line;
      }
    }
  }
  EXPECT_GE(count, 3);
}

TEST(ConfigFilesTest, TheTinyLlamaRecipeIsThePapers) {
  const TrainConfig config = load_config("configs/tinyllama_kd.yaml");
  EXPECT_EQ(tokens_per_step(config), 1024 * 2048);
  EXPECT_EQ(stage_steps(config, 1), 1765);
  EXPECT_EQ(stage_steps(config, 2), 442);
  EXPECT_EQ(config.learning_rate, 1e-4);
  EXPECT_EQ(config.distillation, settings::Distillation{}) << "the paper's weights are the defaults";
  EXPECT_EQ(config.student.plan.layers, (std::vector<int64_t>{2, 5, 4, 3, 7, 6, 18, 9, 8}));
}

TEST(ConfigFilesTest, TheStoryRecipesTakeAsManyStepsAsTheirEvidence) {
  for (const char* path : {"configs/stories12L_kd.yaml", "configs/stories12L_paper.yaml"}) {
    const TrainConfig config = load_config(path);
    EXPECT_EQ(tokens_per_step(config), 2048);
    EXPECT_EQ(stage_steps(config, 1), 240);
    EXPECT_EQ(stage_steps(config, 2), 60);
    EXPECT_EQ(config.student.plan.followers, 5);
  }
}

TEST(ConfigPathsTest, InputsAreFoundAsGivenAndInTheSharedFolder) {
  TemporaryFolder folder;
  const ScopedEnvironment shared("ECHOATT_SHARED", folder.path().string());
  fs::create_directories(folder / "own-corpora/stories");
  write_file(folder / "own-corpora/stories/a.jsonl", "");
  fs::create_directories(folder / "models/own-model");
  EXPECT_EQ(resolve_input("configs", "data.path"), "configs") << "as given";
  EXPECT_EQ(resolve_input("own-corpora/stories", "data.path"), folder / "own-corpora/stories");
  EXPECT_EQ(resolve_input((folder / "own-corpora").string(), "data.path"), folder / "own-corpora");
  EXPECT_EQ(resolve_input("own-corpora/stories/*.jsonl", "data.path"), folder / "own-corpora/stories/*.jsonl");
  for (const char* name : {"models/own-model", "own-model", "organisation/own-model", "own-model/"})
    EXPECT_TRUE(fs::equivalent(resolve_model(name, "teacher.model_name_or_path"), folder / "models/own-model")) << name;
}

TEST(ConfigPathsTest, MissingInputsAreExitCode66WithTheWaysToProvideThem) {
  TemporaryFolder folder;
  const ScopedEnvironment offline("HF_HUB_OFFLINE", "1"), cache("HF_HUB_CACHE", (folder / "cache").string());
  const ScopedEnvironment shared("ECHOATT_SHARED", folder.path().string());
  const std::string weights =
      error_message(ExitCode::input_missing, [] { resolve_model("Organisation/No-Such-Model", "teacher.model_name_or_path"); });
  for (const std::string& part :
       {std::string("teacher.model_name_or_path: Organisation/No-Such-Model: no such folder"),
        std::string("models/No-Such-Model, "), (folder / "models/No-Such-Model").string(),
        std::string("../shared/models/No-Such-Model"),
        std::string("HF_HUB_OFFLINE=0 ./download hf://Organisation/No-Such-Model"), (folder / "cache").string(),
        std::string("ln -s DIR"), std::string("teacher.model_name_or_path=DIR")})
    EXPECT_NE(weights.find(part), std::string::npos) << part << "\nin\n" << weights;
  const std::string local = error_message(ExitCode::input_missing, [] { resolve_model("models/none", "--model"); });
  EXPECT_EQ(local.find("./download"), std::string::npos) << local;
  const std::string data = error_message(ExitCode::input_missing, [] { resolve_input("no/such/*.jsonl", "data.path"); });
  EXPECT_NE(data.find("data.path: no/such/*.jsonl: no such file or folder"), std::string::npos) << data;
  error_message(ExitCode::input_missing, [] { resolve_input("", "data.path"); });
  error_message(ExitCode::input_missing, [] { resolve_model("", "data.path"); });
}

TEST(ConfigPathsTest, TheStoryRecipeFindsItsTeacherAndText) {
  if (!shared_folder()) GTEST_SKIP() << kNoSharedFolder;
  const TrainConfig config = load_config("configs/stories12L_kd.yaml");
  EXPECT_TRUE(fs::exists(resolve_model(config.teacher.model_name_or_path, "teacher.model_name_or_path") / "config.json"));
  EXPECT_TRUE(fs::exists(resolve_input(config.data.path.text(), "data.path")));
}

}  // namespace
}  // namespace echo
