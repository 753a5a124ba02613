#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace echo {

// A server on 127.0.0.1 that answers each request with what `answer(path)` returns: a whole HTTP answer, head and body. It
// closes the connection after each one.
class ScriptedServer {
 public:
  explicit ScriptedServer(std::function<std::string(const std::string& path)> answer);
  ~ScriptedServer();
  ScriptedServer(const ScriptedServer&) = delete;
  ScriptedServer& operator=(const ScriptedServer&) = delete;

  std::string url() const;                    // "http://127.0.0.1:PORT"
  std::vector<std::string> requests() const;  // as they came, heads only

 private:
  void serve();

  std::function<std::string(const std::string&)> answer_;
  int listener_ = -1;
  int port_ = 0;
  mutable std::mutex mutex_;
  std::vector<std::string> requests_;
  std::thread thread_;
};

// An answer with a Content-Length. `headers`: lines that end with \r\n.
std::string http_answer(int status, const std::string& headers, const std::string& body = "");

}  // namespace echo
