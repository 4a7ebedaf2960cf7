#include "haqa/storage/schema.h"

#include <fmt/args.h>

#include <string>

namespace haqa {
namespace {

constexpr int kSchema = 12;
constexpr const char* kRevision = "v3.2.0.a";

/// As SQLAlchemy writes them, white space included, so that nobody can tell the databases apart. SQLite has text where
/// PostgreSQL has types of its own.
constexpr const char* kTables[] = {
    "studies (\n\tstudy_id {serial} NOT NULL, \n\tstudy_name VARCHAR(512) NOT NULL, \n\tPRIMARY KEY (study_id)\n)",
    "version_info (\n\tversion_info_id INTEGER NOT NULL, \n\tschema_version INTEGER, \n\tlibrary_version VARCHAR(256), "
    "\n\tPRIMARY KEY (version_info_id), \n\tCHECK (version_info_id=1)\n)",
    "study_directions (\n\tstudy_direction_id {serial} NOT NULL, \n\tdirection {direction} NOT NULL, \n\tstudy_id "
    "INTEGER NOT NULL, \n\tobjective INTEGER NOT NULL, \n\tPRIMARY KEY (study_direction_id), \n\tUNIQUE (study_id, "
    "objective), \n\tFOREIGN KEY(study_id) REFERENCES studies (study_id)\n)",
    "study_user_attributes (\n\tstudy_user_attribute_id {serial} NOT NULL, \n\tstudy_id INTEGER, \n\t\"key\" "
    "VARCHAR(512), \n\tvalue_json TEXT, \n\tPRIMARY KEY (study_user_attribute_id), \n\tUNIQUE (study_id, \"key\"), "
    "\n\tFOREIGN KEY(study_id) REFERENCES studies (study_id)\n)",
    "study_system_attributes (\n\tstudy_system_attribute_id {serial} NOT NULL, \n\tstudy_id INTEGER, \n\t\"key\" "
    "VARCHAR(512), \n\tvalue_json TEXT, \n\tPRIMARY KEY (study_system_attribute_id), \n\tUNIQUE (study_id, \"key\"), "
    "\n\tFOREIGN KEY(study_id) REFERENCES studies (study_id)\n)",
    "trials (\n\ttrial_id {serial} NOT NULL, \n\tnumber INTEGER, \n\tstudy_id INTEGER, \n\tstate {state} NOT NULL, "
    "\n\tdatetime_start {time}, \n\tdatetime_complete {time}, \n\tPRIMARY KEY (trial_id), \n\tFOREIGN KEY(study_id) "
    "REFERENCES studies (study_id)\n)",
    "trial_user_attributes (\n\ttrial_user_attribute_id {serial} NOT NULL, \n\ttrial_id INTEGER, \n\t\"key\" "
    "VARCHAR(512), \n\tvalue_json TEXT, \n\tPRIMARY KEY (trial_user_attribute_id), \n\tUNIQUE (trial_id, \"key\"), "
    "\n\tFOREIGN KEY(trial_id) REFERENCES trials (trial_id)\n)",
    "trial_system_attributes (\n\ttrial_system_attribute_id {serial} NOT NULL, \n\ttrial_id INTEGER, \n\t\"key\" "
    "VARCHAR(512), \n\tvalue_json TEXT, \n\tPRIMARY KEY (trial_system_attribute_id), \n\tUNIQUE (trial_id, \"key\"), "
    "\n\tFOREIGN KEY(trial_id) REFERENCES trials (trial_id)\n)",
    "trial_params (\n\tparam_id {serial} NOT NULL, \n\ttrial_id INTEGER, \n\tparam_name VARCHAR(512), \n\tparam_value "
    "{real}, \n\tdistribution_json TEXT, \n\tPRIMARY KEY (param_id), \n\tUNIQUE (trial_id, param_name), \n\tFOREIGN "
    "KEY(trial_id) REFERENCES trials (trial_id)\n)",
    "trial_values (\n\ttrial_value_id {serial} NOT NULL, \n\ttrial_id INTEGER NOT NULL, \n\tobjective INTEGER NOT "
    "NULL, "
    "\n\tvalue {real}, \n\tvalue_type {value_type} NOT NULL, \n\tPRIMARY KEY (trial_value_id), \n\tUNIQUE (trial_id, "
    "objective), \n\tFOREIGN KEY(trial_id) REFERENCES trials (trial_id)\n)",
    "trial_intermediate_values (\n\ttrial_intermediate_value_id {serial} NOT NULL, \n\ttrial_id INTEGER NOT NULL, "
    "\n\tstep INTEGER NOT NULL, \n\tintermediate_value {real}, \n\tintermediate_value_type {intermediate_type} NOT "
    "NULL, \n\tPRIMARY KEY (trial_intermediate_value_id), \n\tUNIQUE (trial_id, step), \n\tFOREIGN KEY(trial_id) "
    "REFERENCES trials (trial_id)\n)",
    "trial_heartbeats (\n\ttrial_heartbeat_id {serial} NOT NULL, \n\ttrial_id INTEGER NOT NULL, \n\theartbeat {time} "
    "NOT NULL, \n\tPRIMARY KEY (trial_heartbeat_id), \n\tUNIQUE (trial_id), \n\tFOREIGN KEY(trial_id) REFERENCES "
    "trials "
    "(trial_id)\n)",
    "alembic_version (\n\tversion_num VARCHAR(32) NOT NULL, \n\tCONSTRAINT alembic_version_pkc PRIMARY KEY "
    "(version_num)\n)",
};

constexpr const char* kPostgresTypes[] = {
    "studydirection AS ENUM ('NOT_SET', 'MINIMIZE', 'MAXIMIZE')",
    "trialstate AS ENUM ('RUNNING', 'COMPLETE', 'PRUNED', 'FAIL', 'WAITING')",
    "trialvaluetype AS ENUM ('FINITE', 'INF_POS', 'INF_NEG')",
    "trialintermediatevaluetype AS ENUM ('FINITE', 'INF_POS', 'INF_NEG', 'NAN')",
};

std::string column_types(const char* table, bool postgres) {
  const auto either = [&](const char* in_postgres, const char* in_sqlite) {
    return postgres ? in_postgres : in_sqlite;
  };
  return fmt::format(fmt::runtime(table), fmt::arg("serial", either("SERIAL", "INTEGER")),
                     fmt::arg("direction", either("studydirection", "VARCHAR(8)")),
                     fmt::arg("state", either("trialstate", "VARCHAR(8)")),
                     fmt::arg("time", either("TIMESTAMP WITHOUT TIME ZONE", "DATETIME")),
                     fmt::arg("real", either("FLOAT(53)", "FLOAT")),
                     fmt::arg("value_type", either("trialvaluetype", "VARCHAR(7)")),
                     fmt::arg("intermediate_type", either("trialintermediatevaluetype", "VARCHAR(7)")));
}

bool has_table(Database& db, const std::string& table) {
  int count = 0;
  if (db.postgres()) {
    db.sql() << "SELECT count(*) FROM information_schema.tables WHERE table_schema = current_schema() AND table_name = "
                ":name",
        soci::use(table), soci::into(count);
  } else {
    db.sql() << "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = :name", soci::use(table),
        soci::into(count);
  }
  return count > 0;
}

/// Throws where the tables are there in another version; false where they are not there, or not all of them.
bool complete(Database& db) {
  constexpr const char* kOther =
      "the database {} has version {} of Optuna's tables, and HAQA knows {}; run `optuna storage upgrade`, or take "
      "another database";
  if (!has_table(db, "version_info")) return false;
  int schema = kSchema;
  db.sql() << "SELECT schema_version FROM version_info", soci::into(schema);
  if (schema != kSchema) throw Error(kOther, db.name(), schema, kSchema);
  if (!has_table(db, "alembic_version")) return false;
  std::string revision;
  db.sql() << "SELECT version_num FROM alembic_version", soci::into(revision);
  if (db.sql().got_data() && revision != kRevision) throw Error(kOther, db.name(), revision, kRevision);
  return db.sql().got_data();
}

void create(Database& db) {
  soci::session& sql = db.sql();
  // Two that start at once: the second waits, then finds the work done.
  if (db.postgres()) sql << "SELECT pg_advisory_xact_lock(4727521)";
  if (complete(db)) return;
  if (db.postgres())
    for (const char* type : kPostgresTypes) sql << "CREATE TYPE " << type;
  // Optuna makes them one by one in SQLite: what it could not finish is finished here.
  for (const char* table : kTables) {
    const std::string statement = column_types(table, db.postgres());
    sql << "CREATE TABLE IF NOT EXISTS " << statement;
    if (statement.starts_with("studies "))
      sql << "CREATE UNIQUE INDEX IF NOT EXISTS ix_studies_study_name ON studies (study_name)";
    if (statement.starts_with("trials ")) sql << "CREATE INDEX IF NOT EXISTS ix_trials_study_id ON trials (study_id)";
  }
  sql << "INSERT INTO version_info VALUES (1, " << kSchema << ", 'haqa " << HAQA_VERSION
      << "') ON CONFLICT (version_info_id) DO NOTHING";
  sql << "INSERT INTO alembic_version VALUES ('" << kRevision << "')";
}

}  // namespace

bool prepare_schema(Database& db, Database::Missing missing) {
  bool there = false;
  db.read([&] { there = complete(db); });
  if (!there && missing == Database::Missing::create) {
    db.write([&] { create(db); });
    there = true;
  }
  return there;
}

}  // namespace haqa
