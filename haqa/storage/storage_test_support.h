// What the tests of this folder share: a PostgreSQL server of their own, a search space with every kind of parameter.
#pragma once
#include <gtest/gtest.h>
#include <pwd.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "haqa/base/temporary_folder.h"
#include "haqa/storage/storage.h"
#include "haqa/worker/background_process.h"
#include "haqa/worker/process.h"

namespace haqa {

/// A server in a temporary folder, reached by a socket there; started once a test program.
class PostgresServer {
 public:
  /// nullptr with `why` where none is installed.
  static PostgresServer* get(std::string& why) {
    static std::string problem;
    static std::unique_ptr<PostgresServer> server = start(problem);
    why = problem;
    return server.get();
  }

  ~PostgresServer() { stop(); }

  /// The URL of a new, empty database; the password is not asked for.
  std::string new_database() {
    const std::string name = "t" + std::to_string(++databases_);
    const ProcessResult made = run_process({{programs_ / "createdb", "-h", folder_.path(), "-U", "haqa", name}});
    if (!made.ok()) throw Error("createdb: {}", made.describe());
    return "postgresql+psycopg2://haqa:secret@/" + name + "?host=" + folder_.path().string();
  }

  /// Ends all connections, as a restart of the server does.
  void restart() {
    stop();
    launch();
  }

 private:
  explicit PostgresServer(std::filesystem::path programs) : programs_(std::move(programs)) {}

  static std::unique_ptr<PostgresServer> start(std::string& why) {
    std::filesystem::path programs;
    std::error_code none;
    for (const auto& version : std::filesystem::directory_iterator("/usr/lib/postgresql", none))
      if (std::filesystem::exists(version.path() / "bin" / "initdb")) programs = version.path() / "bin";
    if (programs.empty()) {
      why = "no PostgreSQL server in /usr/lib/postgresql; install Debian's postgresql";
      return nullptr;
    }
    std::unique_ptr<PostgresServer> server(new PostgresServer(programs));
    server->make();
    server->launch();
    return server;
  }

  /// PostgreSQL refuses to run as root. It ends with this process, which a change of user would make it forget.
  std::vector<std::string> as_user(std::vector<std::string> argv) const {
    if (getuid() == 0)
      argv.insert(argv.begin(),
                  {"setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=QUIT"});
    return argv;
  }

  void make() {
    const std::filesystem::path data = folder_ / "data";
    std::filesystem::create_directory(data);
    if (getuid() == 0) {
      const passwd* user = getpwnam("postgres");
      if (!user) throw Error("there is no user postgres to run the server as");
      for (const auto& path : {folder_.path(), data})
        if (chown(path.c_str(), user->pw_uid, user->pw_gid) != 0) throw Error("chown {}", path.string());
    }
    const ProcessResult made = run_process({as_user({programs_ / "initdb", "-D", data, "-U", "haqa", "-A", "trust",
                                                     "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"})});
    if (!made.ok()) throw Error("initdb: {}", made.describe());
  }

  /// At once, but not by SIGKILL, after which shared memory stays for good.
  void stop() {
    if (process_) process_->signal(SIGQUIT);
    for (int tries = 0; tries < 200 && process_ && process_->running(); ++tries)
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    process_.reset();
  }

  void launch() {
    process_.emplace(Command{as_user({programs_ / "postgres", "-D", folder_ / "data", "-k", folder_.path(), "-c",
                                      "listen_addresses=", "-c", "fsync=off"})},
                     folder_ / "server.log");
    for (int tries = 0; tries < 600; ++tries) {
      if (run_process({{programs_ / "pg_isready", "-q", "-h", folder_.path()}}).ok()) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    throw Error("the PostgreSQL server did not start");
  }

  std::filesystem::path programs_;
  TemporaryFolder folder_;
  int databases_ = 0;
  std::optional<BackgroundProcess> process_;
};

/// A new database of each kind.
struct TestDatabase {
  explicit TestDatabase(const std::string& kind) {
    if (kind == "sqlite") url = "sqlite:///" + (folder_ / "study.db").string();
    if (kind != "postgres") return;
    if (PostgresServer* server = PostgresServer::get(skipped)) url = server->new_database();
  }
  std::string url, skipped;  ///< why there is none

 private:
  TemporaryFolder folder_;
};

inline Parameter stepped(Parameter p, double step) {
  p.step = step;
  return p;
}

inline Parameter only_where(Parameter p, const char* when) {
  p.when = Expression(when);
  return p;
}

/// Every kind of parameter that a track can have.
inline Track every_kind() {
  Track t;
  t.name = "finetune";
  t.value_name = "accuracy, %";
  t.space = SearchSpace({
      real_parameter("learning_rate", 1e-5, 0.1, 1e-3, "", true),
      real_parameter("momentum", 0, 0.99, 0.9, ""),
      stepped(real_parameter("dropout", 0, 0.55, 0.1, ""), 0.1),
      stepped(integer_parameter("batch_size", 8, 256, 32, ""), 8),
      integer_parameter("rank", 1, 64, 8, "", true),
      integer_parameter("warm_up", -5, 100, 0, ""),
      categorical_parameter("optimizer", {"sgd", "adamw", "größer"}, "adamw", ""),
      categorical_parameter("precision", {16, 32.5, "auto", nullptr, true}, nullptr, ""),
      boolean_parameter("bias", false, ""),
      only_where(boolean_parameter("nesterov", true, ""), "optimizer == 'sgd'"),
  });
  return t;
}

}  // namespace haqa
