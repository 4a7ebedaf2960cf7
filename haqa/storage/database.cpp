#include "haqa/storage/database.h"

#include <soci/postgresql/soci-postgresql.h>
#include <soci/sqlite3/soci-sqlite3.h>

#include <filesystem>
#include <regex>
#include <string_view>

#include "haqa/base/text.h"

namespace haqa {
namespace {

constexpr const char* kForms =
    "use sqlite:///file.db, sqlite:////folder/file.db or postgresql://user:password@host:port/database";

/// What a kind of failure calls for; empty where nobody can tell.
std::string_view advice(std::string_view message) {
  constexpr std::pair<std::string_view, std::string_view> kKnown[] = {
      {"not a database", "it is no SQLite file; choose another one"},
      {"unable to open", "check that its folder exists and may be written"},
      {"readonly", "check the permissions of the file and of its folder"},
      {"is locked", "another program has been writing for a minute; end it, or use PostgreSQL"},
      {"is full", "make room on the disk"},
      {"disk I/O error", "make room on the disk, or use another one"},
      {"malformed", "the file is damaged; restore a copy"},
      {"does not exist", "create it on the server first"},
      {"onnection", "check that the server runs and that host, port, user and password are right"},
  };
  for (const auto& [sign, text] : kKnown)
    if (message.find(sign) != std::string_view::npos) return text;
  return "";
}

void replace_all(std::string& text, const std::string& from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
}

}  // namespace

Database::Database(const std::string& url, Missing missing) {
  static const std::regex kPostgres(R"(postgres(?:ql)?(?:\+\w+)?(://.*))"),
      kSqlite(R"(sqlite(?:\+\w+)?:///([^?]+)(\?.*)?)");
  static const std::regex kPassword(R"(://[^:/?@]*:(.*)@|[?&]password=([^&]*))");
  std::smatch match;
  if (std::regex_search(url, match, kPassword)) {
    password_ = match[1].matched ? match[1] : match[2];
    if (password_.find_first_of("@/?") != std::string::npos)
      throw UsageError("the password in the storage's URL holds @, / or ?; write them as %40, %2F and %3F");
  }
  name_ = url;
  hide_password(name_);
  try {
    if (std::regex_match(url, match, kSqlite)) {
      open(match[1], missing);
      return;
    }
    if (!std::regex_match(url, match, kPostgres))
      throw UsageError("{} is no storage's URL; {}", one_line(name_), kForms);
    postgres_ = true;
    // libpq reads the rest as SQLAlchemy does. SOCI 4.0.3 spoils a URL without a query: a database "db=" would be
    // missing.
    const bool has_query = match.str(1).find('?') != std::string::npos;
    open("postgresql" + match.str(1) + (has_query ? "" : "?application_name=haqa"), missing);
  } catch (const soci::soci_error& e) {
    throw failure(e.get_error_message());
  }
}

void Database::open(const std::string& target, Missing missing) {
  if (postgres_) {
    sql_.open(*soci::factory_postgresql(), target);
    sql_ << "SET client_min_messages = warning";
    return;
  }
  if (target.find('"') != std::string::npos) throw UsageError("{}: SQLite's file cannot have a \" in its name", name_);
  if (missing == Missing::refuse && !std::filesystem::exists(target))
    throw NoDatabase("there is no database {}", name_);
  sql_.open(*soci::factory_sqlite3(), fmt::format("db=\"{}\"", target));
  sql_ << "PRAGMA busy_timeout = 60000";
  sql_ << "PRAGMA synchronous = FULL";  // a trial that finish() took is on disk
}

void Database::hide_password(std::string& text) const {
  if (password_.empty()) return;
  replace_all(text, ":" + password_ + "@", ":***@");
  replace_all(text, "password=" + password_, "password=***");
  // Wherever else it stands; what is left of the text would tell a shorter one.
  if (password_.size() >= 4) replace_all(text, password_, "***");
}

Error Database::failure(const std::string& message) const {
  std::string shown = one_line(message, 300);
  hide_password(shown);
  const std::string_view advised = advice(shown);
  return Error("the database {} failed: {}{}{}", name_, shown, advised.empty() ? "" : "; ", advised);
}

void Database::begin(const char* statement) {
  try {
    sql_ << statement;
  } catch (const soci::soci_error&) {
    if (!postgres_) throw;
    sql_.reconnect();  // a server that was restarted, or a connection that was idle for too long
    sql_ << statement;
  }
}

void Database::transaction(const char* statement, const std::function<void()>& work) {
  const auto roll_back = [&]() noexcept {
    try {
      sql_ << "ROLLBACK";
    } catch (const soci::soci_error&) {  // the connection is gone, and the transaction with it
    }
  };
  try {
    begin(statement);
    try {
      work();
      sql_ << "COMMIT";
    } catch (...) {
      roll_back();
      throw;
    }
  } catch (const soci::soci_error& e) {
    throw failure(e.get_error_message());
  }
}

}  // namespace haqa
