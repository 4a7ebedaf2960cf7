#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "haqa/report/escape.h"
#include "haqa/report/findings.h"

namespace haqa {

/// What all pages are made of. Texts come unescaped and are escaped here; markup is named so.

std::string element(std::string_view tag, const std::string& text, std::string_view attributes = "");
/// Nothing where there is no content (markup).
std::string section(const std::string& title, const std::string& content);
std::string paragraph(const std::string& text);
/// The page's head: its name, a verdict in few words (empty: none), facts in small.
std::string html_header(const std::string& name, const std::string& verdict, const std::vector<std::string>& facts);
std::string html_facts(const Facts& facts);

/// How a table's rows differ from one another; a vector that is shorter than the table leaves the rest plain.
struct RowLooks {
  std::vector<std::string> classes;
  std::vector<std::string> below;  ///< markup under the column "changed"
};

/// A wide table scrolls by itself, so that the page does not; the keyboard can only scroll what it can reach.
std::string html_table(const Table& table, const std::string& label, const RowLooks& looks = {});

/// A page that asks the network for nothing, in the looks of data/report/report.css; more_css comes after it.
std::string html_page(const std::string& title, const std::string& body, std::string_view more_css = "");

}  // namespace haqa
