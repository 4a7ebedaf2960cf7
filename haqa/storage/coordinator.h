#pragma once
#include "haqa/base/json.h"

namespace haqa {

/// Which process has a trial measured, so that a later one on this host can tell whether it still does: host name,
/// machine, boot, space of process ids, process id and its start. One id may be given to another process, and to others
/// in other containers.
Json this_coordinator();

/// Whether that process is known to be gone. false wherever it cannot be told: another host or container, a machine
/// without an id that was started anew, or nothing that this_coordinator() wrote.
bool is_gone(const Json& coordinator);

}  // namespace haqa
