#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "haqa/study/study.h"

namespace haqa {

/// Trials in a database of Optuna's schema, which Optuna and its dashboard read, continue and plot. docs/storage.md
/// says what stands where.
class DatabaseStorage : public Storage {
 public:
  /// What Optuna's study.enqueue_trial left, brought into the search space, what it leaves open at its default;
  /// proposed by "enqueued".
  std::optional<Trial> claim_waiting() override = 0;
};

/// Opens the study of that name, or begins it. Trials of a process that died on this host end as failed (interrupted).
/// Parameters that the track does not have are left out of configurations; those that a trial lacks are at their
/// default; such a trial does not fit (Trial::fits). url: sqlite:///relative.db, sqlite:////absolute.db or
/// postgresql://user:password@host:port/database. Throws UsageError for another URL or an empty name; Error where the
/// database cannot be opened, is of another version, or holds a study of that name with other directions, other kinds
/// of parameters or other parameters alone. Not thread-safe; several processes may open one study.
std::unique_ptr<DatabaseStorage> open_storage(const std::string& url, const std::string& study_name,
                                              const Track& track);

struct StoredStudy {
  std::vector<Goal> goals;    ///< one at least, but in a damaged database
  std::vector<Trial> trials;  ///< their configurations as they were stored
};

/// Any study, ours or Optuna's, whatever else the database holds. Throws Error where there is none.
StoredStudy read_study(const std::string& url, const std::string& study_name);

/// Whether a study has begun: false also where there is none, or no database.
bool has_trials(const std::string& url, const std::string& study_name);

}  // namespace haqa
