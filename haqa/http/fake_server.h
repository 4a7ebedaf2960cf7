#pragma once
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "haqa/base/error.h"
#include "haqa/base/json.h"

namespace haqa {

/// For tests: an HTTP server on a loopback port whose replies are written byte by byte, so that they can also be wrong
/// in every way a real server or a proxy before it can be. One request a connection, unless keep_connections() is
/// called; one connection at a time.
class FakeServer {
 public:
  struct Request {
    std::string head, body;  ///< head: request line and header fields, as received
    Json json() const { return Json::parse(body); }
    bool has_header(std::string_view line) const { return head.find("\r\n" + std::string(line)) != std::string::npos; }
  };

  /// The way back to the client.
  class Connection {
   public:
    Connection(int fd, const std::atomic<bool>& stopping) : fd_(fd), stopping_(stopping) {}
    /// False once the client is gone.
    bool send(std::string_view bytes) const {
      while (!bytes.empty() && !stopping_) {
        const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (n <= 0) return false;
        bytes.remove_prefix(static_cast<size_t>(n));
      }
      return !stopping_;
    }
    /// Says nothing until the client gives up.
    void hang() const {
      char byte;
      while (!stopping_ && recv(fd_, &byte, 1, MSG_DONTWAIT) != 0) usleep(10'000);
    }
    /// The connection is reset instead of closed.
    void reset() const {
      const linger now{1, 0};
      setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }

   private:
    int fd_;
    const std::atomic<bool>& stopping_;
  };
  using Handler = std::function<void(const Request&, const Connection&)>;

  explicit FakeServer(Handler handler) : handler_(std::move(handler)), fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (bind(fd_, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(fd_, 16) != 0 ||
        getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
      throw Error("the test's server cannot listen");
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  /// Answers every request with the same bytes.
  explicit FakeServer(std::string reply)
      : FakeServer([reply = std::move(reply)](const Request&, const Connection& c) { c.send(reply); }) {}
  ~FakeServer() {
    stopping_ = true;
    thread_.join();
    close(fd_);
  }
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  int port() const { return port_; }
  std::string url() const { return fmt::format("http://127.0.0.1:{}/v1", port_); }
  void keep_connections() { keeps_ = true; }
  int connections() const { return connections_; }
  std::vector<Request> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

  /// A well-formed reply; `headers` are further lines, each ended by "\r\n".
  static std::string reply(int status, const std::string& body, const std::string& type = "application/json",
                           const std::string& headers = "") {
    return fmt::format("HTTP/1.1 {} Status\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n{}\r\n{}",
                       status, type, body.size(), headers, body);
  }
  /// What OpenAI answers.
  static std::string chat(const std::string& content) {
    const Json body = {
        {"choices", {{{"message", {{"role", "assistant"}, {"content", content}}}, {"finish_reason", "stop"}}}},
        {"usage", {{"prompt_tokens", 12}, {"completion_tokens", 3}}}};
    return reply(200, body.dump());
  }

 private:
  void serve() {
    while (!stopping_) {
      pollfd waited{fd_, POLLIN, 0};
      if (poll(&waited, 1, 20) <= 0) continue;
      const int client = accept(fd_, nullptr, nullptr);
      if (client < 0) continue;
      const timeval patience{10, 0};
      setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
      setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
      ++connections_;
      Request request;
      while (receive(client, request)) {
        {
          const std::lock_guard lock(mutex_);
          requests_.push_back(request);
        }
        handler_(request, Connection(client, stopping_));
        if (!keeps_) break;
        request = {};
      }
      close(client);
    }
  }

  static bool receive(int fd, Request& request) {
    std::string text;
    size_t wanted = std::string::npos;
    char buffer[4096];
    while (text.size() < wanted) {
      const ssize_t n = recv(fd, buffer, sizeof buffer, 0);
      if (n <= 0) return false;
      text.append(buffer, static_cast<size_t>(n));
      const size_t end = text.find("\r\n\r\n");
      if (wanted != std::string::npos || end == std::string::npos) continue;
      const size_t length = text.find("Content-Length: ");
      wanted = end + 4 + (length < end ? std::stoul(text.substr(length + 16)) : 0);
      request.head = text.substr(0, end + 2);
    }
    request.body = text.substr(request.head.size() + 2);
    return true;
  }

  Handler handler_;
  int fd_, port_ = 0;
  std::atomic<bool> stopping_{false}, keeps_{false};
  std::atomic<int> connections_{0};
  mutable std::mutex mutex_;
  std::vector<Request> requests_;
  std::thread thread_;
};

}  // namespace haqa
