#pragma once

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "tests/programs/program_support.h"
#include "tests/test_support.h"

namespace echo {

// The Python interpreter and the stand-in for the hub, a program of the shared folder.
struct StandInFiles {
  std::filesystem::path python, shared;
};
std::optional<StandInFiles> find_stand_in();
inline constexpr const char* kNoStandIn = "no stand-in for the hub (it needs python3 and the shared folder)";

// A stand-in for the hub, with faults on demand, while the object lives.
class StandInHub {
 public:
  // config: as the stand-in's documentation describes it. Relative paths start from the shared folder.
  StandInHub(const StandInFiles& files, const nlohmann::json& config);
  ~StandInHub();
  StandInHub(const StandInHub&) = delete;
  StandInHub& operator=(const StandInHub&) = delete;

  std::string endpoint() const { return info_["endpoint"]; }
  // Posts a command and returns the answer. An empty one asks for the summary.
  nlohmann::json control(const nlohmann::json& command = {}, const std::string& query = "") const;

 private:
  StandInFiles files_;
  TemporaryFolder folder_;
  std::FILE* output_ = nullptr;
  nlohmann::json info_;
};

// The environment of a program that fetches from `endpoint` into a cache below `home`, whatever the environment of the tests
// is.
std::map<std::string, std::string> hub_environment(const std::string& endpoint, const std::filesystem::path& home);

}  // namespace echo
