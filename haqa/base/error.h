#pragma once
#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace haqa {

/// A failure the user must see: one sentence that says what was wrong, where, and what to do. Exit code 1.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  template <typename... Args>
  explicit Error(fmt::format_string<Args...> text, Args&&... args)
      : std::runtime_error(fmt::format(text, std::forward<Args>(args)...)) {}
};

/// A disk or a quota has no room left, which is no fault of what was being tried. Exit code 1.
class NoSpaceError : public Error {
 public:
  using Error::Error;
};

/// Memory that was asked for could not be had. Exit code 1.
class NoMemoryError : public Error {
 public:
  using Error::Error;
};

/// What the user typed or wrote (flags, task file) is wrong. Exit code 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// The user pressed Ctrl-C or sent SIGTERM; everything finished is on disk. Exit code 130.
class Interrupted : public Error {
 public:
  using Error::Error;
};

}  // namespace haqa
