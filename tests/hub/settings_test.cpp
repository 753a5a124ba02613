#include "hub/settings.h"

#include <gtest/gtest.h>

#include <list>

#include "tests/test_support.h"

namespace echo {
namespace {

// An environment in which no variable of the hub is set (empty counts as unset), and HOME is an empty folder.
class HubSettingsTest : public testing::Test {
 protected:
  HubSettingsTest() {
    for (const char* name : {"HF_ENDPOINT",
                             "HF_TOKEN",
                             "HUGGING_FACE_HUB_TOKEN",
                             "HF_TOKEN_PATH",
                             "HF_HUB_DISABLE_IMPLICIT_TOKEN",
                             "HF_HOME",
                             "HF_HUB_CACHE",
                             "HUGGINGFACE_HUB_CACHE",
                             "XDG_CACHE_HOME",
                             "HF_HUB_OFFLINE",
                             "TRANSFORMERS_OFFLINE",
                             "HF_HUB_ETAG_TIMEOUT",
                             "HF_HUB_DOWNLOAD_TIMEOUT",
                             "HF_HUB_USER_AGENT_ORIGIN",
                             "SSL_CERT_FILE",
                             "CURL_CA_BUNDLE",
                             "SSL_CERT_DIR",
                             "http_proxy",
                             "HTTP_PROXY",
                             "https_proxy",
                             "HTTPS_PROXY",
                             "all_proxy",
                             "ALL_PROXY",
                             "no_proxy",
                             "NO_PROXY"})
      set(name, "");
    set("HOME", home_.path().string());
  }
  void set(const char* name, const std::string& value) { variables_.emplace_front(name, value); }

  const TemporaryFolder home_;

 private:
  std::list<ScopedEnvironment> variables_;  // the last one set is restored first
};

TEST_F(HubSettingsTest, WithoutVariablesTheHubItselfIsAskedWithoutAToken) {
  const HubSettings settings = read_hub_settings();
  EXPECT_EQ(settings.endpoint, "https://huggingface.co");
  EXPECT_EQ(settings.token, "");
  EXPECT_EQ(settings.cache, home_ / ".cache/huggingface/hub");
  EXPECT_FALSE(settings.offline);
  EXPECT_EQ(settings.hub_timeout.count(), 10);
  EXPECT_EQ(settings.https_proxy, "");
}

TEST_F(HubSettingsTest, TheMoreSpecialVariableDecidesWhereTheCacheIs) {
  set("XDG_CACHE_HOME", "/xdg");
  EXPECT_EQ(read_hub_settings().cache, "/xdg/huggingface/hub");
  set("HF_HOME", "~/hf");
  EXPECT_EQ(read_hub_settings().cache, home_ / "hf/hub");
  set("HUGGINGFACE_HUB_CACHE", "$HF_HOME/old");
  EXPECT_EQ(read_hub_settings().cache, "~/hf/old");  // as in a shell, where only the first character of a word is a home
  set("HF_HUB_CACHE", "${HOME}/new");
  EXPECT_EQ(read_hub_settings().cache, home_ / "new");
}

TEST_F(HubSettingsTest, TheTokenComesFromAVariableOrElseFromAFileWithoutWhiteSpace) {
  set("HF_HOME", home_.path().string());
  write_file(home_ / "token", "hf_file\n");
  EXPECT_EQ(read_hub_settings().token, "hf_file");
  EXPECT_EQ(read_hub_settings().token_source, (home_ / "token").string());
  write_file(home_ / "other", " hf_other ");
  set("HF_TOKEN_PATH", (home_ / "other").string());
  EXPECT_EQ(read_hub_settings().token, "hf_other");
  set("HUGGING_FACE_HUB_TOKEN", "hf_old");
  EXPECT_EQ(read_hub_settings().token, "hf_old");
  set("HF_TOKEN", "  hf_\r\nnew\n");  // a line break would add a header
  EXPECT_EQ(read_hub_settings().token, "hf_new");
  EXPECT_EQ(read_hub_settings().token_source, "HF_TOKEN");
  set("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1");
  EXPECT_EQ(read_hub_settings().token, "");
}

TEST_F(HubSettingsTest, YesIsWrittenInFourWaysAndAllElseIsNo) {
  for (const char* yes : {"1", "on", "Yes", "TRUE"}) {
    set("HF_HUB_OFFLINE", yes);
    EXPECT_TRUE(read_hub_settings().offline) << yes;
  }
  set("TRANSFORMERS_OFFLINE", "1");
  set("HF_HUB_OFFLINE", "0");
  EXPECT_FALSE(read_hub_settings().offline);
  set("HF_HUB_OFFLINE", "");
  EXPECT_TRUE(read_hub_settings().offline);
}

TEST_F(HubSettingsTest, ProxiesAreReadInEitherCase) {
  set("ALL_PROXY", "http://all:1");
  set("HTTPS_PROXY", "http://upper:2");
  EXPECT_EQ(read_hub_settings().http_proxy, "http://all:1");
  EXPECT_EQ(read_hub_settings().https_proxy, "http://upper:2");
  set("https_proxy", "http://lower:3");
  EXPECT_EQ(read_hub_settings().https_proxy, "http://lower:3");
}

TEST_F(HubSettingsTest, AValueThatCannotBeUsedIsNamed) {
  set("HF_HUB_ETAG_TIMEOUT", "0");
  EXPECT_EQ(read_hub_settings().hub_timeout.count(), 10);
  set("HF_HUB_ETAG_TIMEOUT", "2s");
  expect_contains(error_message(ExitCode::config, [] { read_hub_settings(); }), "HF_HUB_ETAG_TIMEOUT=2s");
  set("HF_HUB_ETAG_TIMEOUT", "3");
  EXPECT_EQ(read_hub_settings().hub_timeout.count(), 3);
  set("HF_ENDPOINT", "https://mirror.example/hf/");
  EXPECT_EQ(read_hub_settings().endpoint, "https://mirror.example/hf");
  for (const char* endpoint : {"ftp://host", "huggingface.co", "https://", "https://host?x"}) {
    set("HF_ENDPOINT", endpoint);
    expect_contains(error_message(ExitCode::config, [] { read_hub_settings(); }), "HF_ENDPOINT=");
  }
}

}  // namespace
}  // namespace echo
