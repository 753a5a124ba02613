#pragma once

#include <chrono>
#include <filesystem>
#include <stop_token>
#include <string>

namespace echo {

// How to reach the hub. The environment decides, with the names and rules of the hub's own client.
struct HubSettings {
  std::string endpoint;                      // HF_ENDPOINT, without a slash at the end
  std::string token;                         // empty: none is sent
  std::string token_source;                  // where it came from, for messages: HF_TOKEN or a file
  std::filesystem::path cache;               // HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub
  std::filesystem::path shard_cache;         // HF_HOME/echoatt/shards: data that streams in. Its files are removed after use
  bool offline = false;                      // HF_HUB_OFFLINE: no request at all
  std::chrono::seconds hub_timeout{10};      // HF_HUB_ETAG_TIMEOUT
  std::chrono::seconds storage_timeout{10};  // HF_HUB_DOWNLOAD_TIMEOUT
  std::string user_agent;
  std::string certificates_file, certificates_folder;  // SSL_CERT_FILE (or CURL_CA_BUNDLE), SSL_CERT_DIR; empty: the system's
  std::string http_proxy, https_proxy, no_proxy;       // empty: none
  bool show_progress = true;                           // HF_HUB_DISABLE_PROGRESS_BARS
  std::stop_token stop;  // when it is requested, transfers and pauses end with an Error (unavailable)
};

// Throws Error (config) that names the variable whose value cannot be used.
HubSettings read_hub_settings();

}  // namespace echo
