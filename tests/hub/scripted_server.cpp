#include "tests/hub/scripted_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "base/error.h"

namespace echo {

ScriptedServer::ScriptedServer(std::function<std::string(const std::string& path)> answer) : answer_(std::move(answer)) {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ECHO_CHECK(::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0 && ::listen(listener_, 8) == 0 &&
                 ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0,
             "no port on 127.0.0.1");
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { serve(); });
}

ScriptedServer::~ScriptedServer() {
  ::shutdown(listener_, SHUT_RDWR);  // ends the accept
  thread_.join();
  ::close(listener_);
}

std::string ScriptedServer::url() const { return concat("http://127.0.0.1:", port_); }

std::vector<std::string> ScriptedServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

void ScriptedServer::serve() {
  for (int connection; (connection = ::accept(listener_, nullptr, nullptr)) >= 0; ::close(connection)) {
    std::string request;
    char buffer[4096];
    while (request.find("\r\n\r\n") == request.npos) {
      const ssize_t count = ::recv(connection, buffer, sizeof buffer, 0);
      if (count <= 0) break;
      request.append(buffer, size_t(count));
    }
    const size_t path = request.find(' ') + 1;
    const std::string answer = answer_(request.substr(path, request.find(' ', path) - path));
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    for (size_t sent = 0; sent < answer.size();) {
      const ssize_t count = ::send(connection, answer.data() + sent, answer.size() - sent, MSG_NOSIGNAL);
      if (count <= 0) break;
      sent += size_t(count);
    }
  }
}

std::string http_answer(int status, const std::string& headers, const std::string& body) {
  return concat("HTTP/1.1 ", status, " Said\r\nConnection: close\r\nContent-Length: ", body.size(), "\r\n", headers, "\r\n",
                body);
}

}  // namespace echo
