#include "haqa/http/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <thread>

#include "haqa/base/error.h"
#include "haqa/worker/process.h"

namespace haqa {
namespace {

constexpr double kConnectTimeoutS = 15;

/// curl_global_init is not safe to run twice at once; a local static is.
void init_curl() {
  static const CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (code != CURLE_OK) throw Error("libcurl cannot start: {}; check its installation", curl_easy_strerror(code));
}

struct Deleter {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using Handle = std::unique_ptr<CURL, Deleter>;
using HeaderList = std::unique_ptr<curl_slist, Deleter>;
using Url = std::unique_ptr<CURLU, Deleter>;

Url parse_url(const std::string& text) {
  init_curl();
  Url url(curl_url());
  if (!url || curl_url_set(url.get(), CURLUPART_URL, text.c_str(), 0) != CURLUE_OK) return nullptr;
  return url;
}

std::string part(const Url& url, CURLUPart which) {
  char* text = nullptr;
  if (curl_url_get(url.get(), which, &text, 0) != CURLUE_OK) return "";
  const std::unique_ptr<char, decltype(&curl_free)> owned(text, curl_free);
  return text;
}

void add_header(HeaderList& list, const std::string& header) {
  curl_slist* longer = curl_slist_append(list.get(), header.c_str());
  if (!longer) throw std::bad_alloc();
  static_cast<void>(list.release());  // append returns the old head, or the first one
  list.reset(longer);
}

HeaderList headers_of(const HttpRequest& request) {
  HeaderList list;
  add_header(list, "Accept: application/json");
  add_header(list, "Content-Type: application/json");
  add_header(list, "Expect:");  // else curl waits a second for servers that ignore it
  if (!request.key.empty()) add_header(list, "Authorization: Bearer " + request.key);
  return list;
}

struct Sink {
  std::string body;
  bool too_large = false;
};

// C callbacks: nothing may be thrown through libcurl.
size_t take_body(char* data, size_t, size_t size, void* user) noexcept {
  Sink& sink = *static_cast<Sink*>(user);
  sink.too_large = sink.body.size() + size > kMaxBodyBytes;
  if (sink.too_large) return 0;
  sink.body.append(data, size);
  return size;
}

int stop_when_interrupted(void*, curl_off_t, curl_off_t, curl_off_t, curl_off_t) noexcept {
  return interrupted() ? 1 : 0;
}

/// Servers on this machine are reached directly even where $http_proxy is set and $no_proxy forgets them.
bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "[::1]" || host.starts_with("127.");
}

void prepare(CURL* curl, const HttpRequest& request, const curl_slist* headers, Sink& sink, char* detail) {
  const auto milliseconds = [](double s) { return static_cast<long>(std::clamp(s, 0.001, 1e6) * 1000); };
  // CURLOPT_NOSIGNAL stays off: with it curl would leave SIGPIPE to us.
  curl_easy_setopt(curl, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "haqa/" HAQA_VERSION);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, milliseconds(request.timeout_s));
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, milliseconds(std::min(request.timeout_s, kConnectTimeoutS)));
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, detail);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &sink);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, stop_when_interrupted);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  if (request.json) {
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.json->size()));
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request.json->c_str());
  }
  if (const Url url = parse_url(request.url); url && is_loopback(part(url, CURLUPART_HOST)))
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
}

HttpFailure::Kind kind_of(CURLcode code, bool connected, bool too_large) {
  using Kind = HttpFailure::Kind;
  if (too_large) return Kind::too_large;
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
      return Kind::unreachable;
    case CURLE_OPERATION_TIMEDOUT:
      return connected ? Kind::timed_out : Kind::unreachable;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
      return Kind::insecure;
    case CURLE_UNSUPPORTED_PROTOCOL:  // what curl says of a reply without a status line
    case CURLE_WEIRD_SERVER_REPLY:
      return Kind::not_http;
    default:
      return Kind::broken;
  }
}

HttpResponse response_of(CURL* curl, std::string body) {
  HttpResponse response;
  response.body = std::move(body);
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &response.status);
  curl_easy_getinfo(curl, CURLINFO_TOTAL_TIME, &response.seconds);
  curl_off_t retry_after_s = 0;
  curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &retry_after_s);
  response.retry_after_s = static_cast<double>(retry_after_s);
  const auto text = [curl](CURLINFO which) {
    const char* value = nullptr;
    curl_easy_getinfo(curl, which, &value);
    return std::string(value ? value : "");
  };
  response.content_type = text(CURLINFO_CONTENT_TYPE);
  response.location = text(CURLINFO_REDIRECT_URL);
  return response;
}

}  // namespace

HttpAddress parse_http_address(const std::string& text) {
  const Url url = parse_url(text);
  HttpAddress address;
  if (url) address.scheme = part(url, CURLUPART_SCHEME);
  if (address.scheme != "http" && address.scheme != "https") {
    // What cannot be parsed may still hold a password; none of it is repeated then.
    const bool may_be_shown = text.find('@') == std::string::npos && text.find('?') == std::string::npos;
    throw UsageError("'{}' is not an http or https address; write it like http://localhost:8080/v1",
                     may_be_shown ? text : "***");
  }
  address.host = part(url, CURLUPART_HOST);
  address.user = part(url, CURLUPART_USER);
  address.password = part(url, CURLUPART_PASSWORD);
  address.query = part(url, CURLUPART_QUERY);
  address.port = part(url, CURLUPART_PORT);
  const std::string path = part(url, CURLUPART_PATH);
  address.shown = address.scheme + "://" + address.host + (address.port.empty() ? "" : ":" + address.port) +
                  (path == "/" ? "" : path);
  return address;
}

std::string add_to_path(const std::string& text, std::string_view suffix) {
  const Url url = parse_url(text);
  if (!url) throw UsageError("not an http or https address; write it like http://localhost:8080/v1");
  std::string path = part(url, CURLUPART_PATH);
  while (path.ends_with('/')) path.pop_back();
  path += suffix;
  curl_url_set(url.get(), CURLUPART_PATH, path.c_str(), 0);
  return part(url, CURLUPART_URL);
}

std::string add_query(const std::string& text, const std::string& name, const std::string& value) {
  const Url url = parse_url(text);
  if (!url) throw UsageError("not an http or https address; write it like http://localhost:8080/v1");
  curl_url_set(url.get(), CURLUPART_QUERY, (name + "=" + value).c_str(), CURLU_APPENDQUERY | CURLU_URLENCODE);
  return part(url, CURLUPART_URL);
}

namespace {
/// Of all options, which point to what lives no longer; connections stay.
struct ResetAtEnd {
  CURL* curl;
  ~ResetAtEnd() { curl_easy_reset(curl); }
};
}  // namespace

struct HttpSession::Curl {
  Handle handle;
};

HttpSession::HttpSession() : curl_(std::make_unique<Curl>()) {
  init_curl();
  curl_->handle.reset(curl_easy_init());
  if (!curl_->handle) throw std::bad_alloc();
}

HttpSession::~HttpSession() = default;

std::variant<HttpResponse, HttpFailure> HttpSession::exchange(const HttpRequest& request) {
  check_interrupted();
  CURL* curl = curl_->handle.get();
  const HeaderList headers = headers_of(request);
  std::array<char, CURL_ERROR_SIZE> detail{};
  Sink sink;
  const ResetAtEnd reset{curl};
  prepare(curl, request, headers.get(), sink, detail.data());
  const CURLcode code = curl_easy_perform(curl);
  check_interrupted();
  if (code == CURLE_OK) return response_of(curl, std::move(sink.body));
  double connect_s = 0, begun_s = 0;  // where the connection stood already, only the request has a beginning
  curl_easy_getinfo(curl, CURLINFO_CONNECT_TIME, &connect_s);
  curl_easy_getinfo(curl, CURLINFO_PRETRANSFER_TIME, &begun_s);
  return HttpFailure{kind_of(code, connect_s > 0 || begun_s > 0, sink.too_large),
                     detail[0] != '\0' ? detail.data() : curl_easy_strerror(code)};
}

std::variant<HttpResponse, HttpFailure> http_exchange(const HttpRequest& request) {
  return HttpSession().exchange(request);
}

void wait_interruptibly(double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  for (check_interrupted(); Clock::now() < end; check_interrupted())
    std::this_thread::sleep_for(
        std::min<std::chrono::duration<double>>(end - Clock::now(), std::chrono::milliseconds(50)));
}

}  // namespace haqa
