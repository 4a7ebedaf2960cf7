#pragma once
#include "haqa/storage/database.h"

namespace haqa {

/// Makes Optuna's tables, types and indexes where the database has none (Missing::create), and checks that they are of
/// the version that HAQA knows: schema 12, revision v3.2.0.a. Returns whether they are there. Throws Error for another
/// version. Source: optuna/storages/_rdb/models.py of Optuna 5.0.
bool prepare_schema(Database& db, Database::Missing missing);

}  // namespace haqa
