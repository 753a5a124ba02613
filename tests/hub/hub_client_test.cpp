#include "hub/hub_client.h"

#include <gtest/gtest.h>

#include "tests/hub/scripted_server.h"
#include "tests/test_support.h"

namespace echo {
namespace {

HubSettings settings_for(const std::string& endpoint) {
  HubSettings settings;
  settings.endpoint = endpoint;
  settings.token = "hf_secret";
  settings.token_source = "HF_TOKEN";
  settings.user_agent = "echoatt/test";
  return settings;
}

std::string body_of(HubClient& client, const std::string& url) {
  std::string text;
  client.get({url, {}, std::chrono::seconds(5), false},
             {[](const HttpHead&) { return true; }, [&](std::string_view bytes) { return text += bytes, true; }});
  return text;
}

bool has_token(const std::string& request) { return request.find("Authorization: Bearer hf_secret") != request.npos; }

TEST(HubClientTest, TheTokenGoesToTheHubAndNotToAnotherPort) {
  const ScriptedServer storage([](const std::string&) { return http_answer(200, "", "content"); });
  const ScriptedServer hub([&](const std::string& path) {
    return path == "/a" ? http_answer(307, "Location: /b\r\n", "moved")
                        : http_answer(302, concat("Location: ", storage.url(), "/c?sig=1\r\n"));
  });
  HubClient client(settings_for(hub.url()), {});
  EXPECT_EQ(body_of(client, hub.url() + "/a"), "content");
  ASSERT_EQ(hub.requests().size(), 2u);
  for (const std::string& request : hub.requests()) EXPECT_TRUE(has_token(request)) << request;
  ASSERT_EQ(storage.requests().size(), 1u);
  EXPECT_FALSE(has_token(storage.requests()[0])) << storage.requests()[0];
  EXPECT_TRUE(storage.requests()[0].starts_with("GET /c?sig=1 ")) << storage.requests()[0];
}

TEST(HubClientTest, WhatBeganEncryptedDoesNotGoOnInPlainText) {
  const ScriptedServer plain([](const std::string&) { return http_answer(200, "", "content"); });
  HubClient client(settings_for("https://hub.example"), {});
  const std::string message = error_message(ExitCode::unavailable, [&] { body_of(client, plain.url() + "/a?signature=1"); });
  expect_contains(message, "not encrypted");
  EXPECT_EQ(message.find("signature"), message.npos) << message;
  EXPECT_TRUE(plain.requests().empty());
}

TEST(HubClientTest, TenRedirectsAreFollowedAndNotEleven) {
  const ScriptedServer hub([](const std::string& path) {
    const int left = std::atoi(path.c_str() + 1);
    return left == 0 ? http_answer(200, "", "content") : http_answer(302, concat("Location: /", left - 1, "\r\n"));
  });
  HubClient client(settings_for(hub.url()), {});
  EXPECT_EQ(body_of(client, hub.url() + "/10"), "content");
  expect_contains(error_message(ExitCode::unavailable, [&] { body_of(client, hub.url() + "/11"); }), "more than 10 redirects");
}

TEST(HubClientTest, ARedirectToSomethingElseThanTheWebIsRefused) {
  const ScriptedServer hub([](const std::string&) { return http_answer(302, "Location: file:///etc/hostname\r\n"); });
  HubClient client(settings_for(hub.url()), {});
  error_message(ExitCode::unavailable, [&] { body_of(client, hub.url() + "/a"); });
}

// An answer of the hub, and the exit code and words that it leads to.
struct Refusal {
  int status;
  const char* code;
  bool with_token;
  ExitCode exit;
  const char* says;
};

TEST(HubClientTest, EveryRefusalHasItsExitCodeAndRemedy) {
  for (const Refusal& refusal :
       std::initializer_list<Refusal>{{404, "RepoNotFound", false, ExitCode::input_missing, "HF_TOKEN"},
                                      {404, "RevisionNotFound", true, ExitCode::input_missing, "no such revision"},
                                      {404, "EntryNotFound", true, ExitCode::input_missing, "no such file"},
                                      {404, "", true, ExitCode::input_missing, "HF_ENDPOINT"},
                                      {401, "", false, ExitCode::input_missing, "private"},
                                      {401, "", true, ExitCode::no_permission, "token from HF_TOKEN"},
                                      {401, "GatedRepo", false, ExitCode::no_permission, "terms"},
                                      {403, "GatedRepo", true, ExitCode::no_permission, "terms"},
                                      {403, "", true, ExitCode::no_permission, "refuses"},
                                      {451, "", true, ExitCode::unavailable, "451"},
                                      {503, "", true, ExitCode::unavailable, "503"}}) {
    HubSettings settings = settings_for("https://hub.example");
    if (!refusal.with_token) settings.token.clear();
    const HubClient client(settings, {});
    HttpHead head{refusal.status, {}};
    if (*refusal.code != '\0') head.headers.emplace_back("x-error-code", refusal.code);
    const std::string message = error_message(refusal.exit, [&] { client.judge_refusal(head, "hf://org/name/file"); });
    expect_contains(message, refusal.says);
    EXPECT_EQ(message.find("hf_secret"), message.npos) << message;
    if (refusal.status < 500) expect_contains(message, "hf://org/name/file");
  }
}

TEST(HubClientTest, TheLongerOfTwoRequestedPausesCounts) {
  EXPECT_FALSE(requested_wait({429, {}}).has_value());
  EXPECT_EQ(requested_wait({503, {{"retry-after", "7"}}}), 7.0);
  EXPECT_EQ(requested_wait({429, {{"ratelimit", "\"api\";r=0;t=55"}, {"retry-after", "7"}}}), 55.0);
  EXPECT_FALSE(requested_wait({429, {{"ratelimit", "\"api\";r=3;t=55"}}}).has_value());
  EXPECT_EQ(requested_wait({429, {{"retry-after", "Wed, 21 Oct 2015 07:28:00 GMT"}}}), 0.0);
}

TEST(HubClientTest, RequestsAreSpreadOnceATenthOfTheQuotaIsLeft) {
  const auto pause = [](const std::string& limit) {
    return pause_for_quota({200, {{"ratelimit", limit}, {"ratelimit-policy", "\"fixed window\";\"api\";q=500;w=300"}}});
  };
  EXPECT_EQ(pause("\"api\";r=50;t=100"), 0);
  EXPECT_EQ(pause("\"api\";r=49;t=100"), 2);
  EXPECT_EQ(pause("\"api\";r=0;t=300"), 60);  // the longest
  EXPECT_EQ(pause_for_quota({200, {}}), 0);
}

TEST(HubClientTest, AJsonDocumentIsReadAgainWhenTheFirstAnswerIsAPage) {
  int count = 0;
  const ScriptedServer hub([&](const std::string&) { return http_answer(200, "", count++ == 0 ? "<html>" : "{\"sha\": 1}"); });
  HubClient client(settings_for(hub.url()), {});
  EXPECT_EQ(client.get_json(hub.url() + "/api", "hf://org/name")["sha"], 1);
  EXPECT_EQ(hub.requests().size(), 2u);
}

}  // namespace
}  // namespace echo
