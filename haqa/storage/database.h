#pragma once
#include <soci/soci.h>

#include <functional>
#include <string>

#include "haqa/base/error.h"

namespace haqa {

/// There is no such SQLite file.
class NoDatabase : public Error {
 public:
  using Error::Error;
};

/// A connection to an SQLite file or a PostgreSQL server. Failures are Errors that name the database and never its
/// password.
class Database {
 public:
  enum class Missing { create, refuse };  ///< of an SQLite file that is not there

  /// url: sqlite:///relative.db, sqlite:////absolute.db, postgresql://user:password@host:port/name; a driver such as
  /// +psycopg2 is passed over. Throws UsageError for others, Error where it cannot be opened, NoDatabase where it
  /// is refused.
  Database(const std::string& url, Missing missing);

  /// The URL without the password.
  const std::string& name() const { return name_; }
  bool postgres() const { return postgres_; }
  /// Within read() and write() only.
  soci::session& sql() { return sql_; }

  /// Runs `work` in a transaction that sees what others have committed.
  void read(const std::function<void()>& work) { transaction(postgres_ ? kPostgresBegin : "BEGIN", work); }
  /// Runs `work` in a transaction of which all is on disk at its end, or nothing. SQLite lets one writer in at a time:
  /// others wait, for a minute at most.
  void write(const std::function<void()>& work) { transaction(postgres_ ? kPostgresBegin : "BEGIN IMMEDIATE", work); }

 private:
  /// Whoever waited for a lock sees what its holder did; a server may have another level as its default.
  static constexpr const char* kPostgresBegin = "BEGIN ISOLATION LEVEL READ COMMITTED";

  void open(const std::string& url, Missing missing);
  void begin(const char* statement);
  void transaction(const char* begin, const std::function<void()>& work);
  Error failure(const std::string& message) const;
  void hide_password(std::string& text) const;

  std::string name_, password_;
  bool postgres_ = false;
  soci::session sql_;
};

}  // namespace haqa
