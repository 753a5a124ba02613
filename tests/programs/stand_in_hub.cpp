#include "tests/programs/stand_in_hub.h"

#include <signal.h>

#include "base/error.h"

namespace echo {

namespace fs = std::filesystem;
using nlohmann::json;

std::optional<StandInFiles> find_stand_in() {
  const auto shared = shared_folder();
  if (!shared || !fs::exists(*shared / "tools/fake_hub.py")) return std::nullopt;
  for (const char* path : {"/usr/bin/python3", "/usr/local/bin/python3"})
    if (fs::exists(path)) return StandInFiles{path, fs::absolute(*shared)};
  return std::nullopt;
}

StandInHub::StandInHub(const StandInFiles& files, const json& config) : files_(files) {
  write_file(folder_ / "config.json", config.dump());
  const std::string command =
      concat("exec '", files.python.string(), "' '", (files.shared / "tools/fake_hub.py").string(), "' --seconds 300 --base '",
             files.shared.string(), "' --config '", (folder_ / "config.json").string(), "'");
  output_ = ::popen(command.c_str(), "r");
  std::string line;
  for (int c; output_ != nullptr && (c = std::fgetc(output_)) != EOF && c != '\n';) line += char(c);
  info_ = json::parse(line);
}

StandInHub::~StandInHub() {
  ::kill(info_["pid"].get<pid_t>(), SIGTERM);
  ::pclose(output_);
}

json StandInHub::control(const json& command, const std::string& query) const {
  const std::string script =
      "import sys, urllib.request as r\n"
      "print(r.urlopen(sys.argv[1], sys.argv[2].encode() or None).read().decode())";
  const ProgramResult result = run_executable(
      files_.python, {"-c", script, info_["control"].get<std::string>() + query, command.is_null() ? "" : command.dump()});
  if (result.exit_code != 0) fail(ExitCode::internal, "the stand-in: ", result.errors);
  return json::parse(result.output);
}

std::map<std::string, std::string> hub_environment(const std::string& endpoint, const fs::path& home) {
  std::map<std::string, std::string> variables;
  for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE",
                           "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"})
    variables[name] = "";
  variables["HF_ENDPOINT"] = endpoint;
  variables["HF_HOME"] = home.string();
  return variables;
}

}  // namespace echo
