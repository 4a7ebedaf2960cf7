#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace haqa {

/// The parts of an address, for requests (with everything the user gave) and for messages (without secrets).
struct HttpAddress {
  std::string scheme, host, port;  ///< port: empty where the address names none
  std::string shown;               ///< scheme, host, port and path; neither user, password nor query
  std::string user;                ///< as written; empty: none
  std::string password;            ///< as written, percent-encoded perhaps
  std::string query;               ///< without the question mark
};
/// Throws UsageError unless the text is an http or https address; the error does not repeat passwords.
HttpAddress parse_http_address(const std::string& url);

/// `url` with `suffix` added to its path and whatever follows the path kept: "http://h/v1?a=b" + "/models" is
/// "http://h/v1/models?a=b".
std::string add_to_path(const std::string& url, std::string_view suffix);

/// `url` with NAME=VALUE added to its query, the value percent-encoded. Throws UsageError where it is no address.
std::string add_query(const std::string& url, const std::string& name, const std::string& value);

struct HttpRequest {
  std::string url;
  std::string key;                  ///< bearer token; empty: none
  std::optional<std::string> json;  ///< POSTed; nothing: a GET
  double timeout_s = 120;           ///< of the whole exchange
};

struct HttpResponse {
  long status = 0;
  std::string body, content_type;
  std::string location;      ///< of a redirect, which is never followed: the key would go along
  double retry_after_s = 0;  ///< 0: none given
  double seconds = 0;
};

/// Why there is no response.
struct HttpFailure {
  enum class Kind {
    unreachable,  ///< no such host, connection refused, no connection in time
    timed_out,
    broken,     ///< the connection ended before the response did
    too_large,  ///< more than kMaxBodyBytes
    insecure,   ///< TLS failed
    not_http,
  };
  Kind kind;
  std::string detail;  ///< libcurl's words
};

/// Far above any chat reply, far below what hurts.
inline constexpr size_t kMaxBodyBytes = 8 << 20;

/// Exchanges through libcurl; the connection stays for the next one, where the server lets it. For one thread.
class HttpSession {
 public:
  HttpSession();
  ~HttpSession();
  HttpSession(const HttpSession&) = delete;
  HttpSession& operator=(const HttpSession&) = delete;
  /// Follows no redirects. Throws Interrupted on Ctrl-C, within a second.
  std::variant<HttpResponse, HttpFailure> exchange(const HttpRequest& request);

 private:
  struct Curl;
  std::unique_ptr<Curl> curl_;
};

/// One exchange in a session of its own.
std::variant<HttpResponse, HttpFailure> http_exchange(const HttpRequest& request);

/// How a client pauses between two tries, in seconds; tests pass one that only takes notes.
using Wait = std::function<void(double seconds)>;

/// Sleeps; throws Interrupted within 100 ms of Ctrl-C.
void wait_interruptibly(double seconds);

}  // namespace haqa
