#include "haqa/report/page.h"

#include <fmt/format.h>

#include "haqa/base/file.h"

namespace haqa {
namespace {

/// default-src does not cover the last two; event handlers in attributes, which the page never has, stay forbidden.
constexpr const char* kPolicy =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; script-src-attr 'none'; "
    "base-uri 'none'; form-action 'none'";

std::string html_row(const Table& table, size_t number, const RowLooks& looks) {
  const bool marked = number < looks.classes.size() && !looks.classes[number].empty();
  std::string out = marked ? "<tr class=\"" + looks.classes[number] + "\">" : "<tr>";
  const auto& row = table.rows[number];
  for (size_t i = 0; i < row.size(); ++i) {
    const std::string_view tag = i == 0 ? "th scope=\"row\"" : "td", end = i == 0 ? "th" : "td";
    const std::string_view side = table.align[i] == 'r' ? " class=\"number\"" : "";
    const std::string below = table.head[i] == "changed" && number < looks.below.size() ? looks.below[number] : "";
    out += fmt::format("<{}{}>{}{}</{}>", tag, side, html_text(row[i]), below, end);
  }
  return out + "</tr>\n";
}

}  // namespace

std::string element(std::string_view tag, const std::string& text, std::string_view attributes) {
  return fmt::format("<{0}{1}>{2}</{0}>", tag, attributes, html_text(text));
}

std::string section(const std::string& title, const std::string& content) {
  return content.empty() ? "" : "<section>\n<h2>" + html_text(title) + "</h2>\n" + content + "</section>\n";
}

std::string paragraph(const std::string& text) {
  return text.empty() ? "" : element("p", text) + "\n";
}

std::string html_table(const Table& table, const std::string& label, const RowLooks& looks) {
  if (table.head.empty() || table.rows.empty()) return "";
  std::string out =
      fmt::format("<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{}\"><table>\n", html_text(label));
  out += "<thead><tr>";
  for (size_t i = 0; i < table.head.size(); ++i)
    out += element("th", table.head[i],
                   std::string(" scope=\"col\"") + (table.align[i] == 'r' ? " class=\"number\"" : ""));
  out += "</tr></thead>\n<tbody>\n";
  for (size_t i = 0; i < table.rows.size(); ++i) out += html_row(table, i, looks);
  return out + "</tbody></table></div>\n";
}

std::string html_header(const std::string& name, const std::string& verdict, const std::vector<std::string>& facts) {
  return "<header>\n" + element("h1", name) + (verdict.empty() ? "" : element("p", verdict, " class=\"verdict\"")) +
         element("p", joined(facts, " · "), " class=\"facts\"") + "\n</header>\n";
}

std::string html_facts(const Facts& facts) {
  std::string out;
  for (const auto& [name, value] : facts) out += element("dt", name) + element("dd", value) + "\n";
  return out.empty() ? "" : "<dl>\n" + out + "</dl>\n";
}

std::string html_page(const std::string& title, const std::string& body, std::string_view more_css) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>{}</title>\n<style>\n{}{}</style>\n</head>\n<body>\n{}</body>\n</html>\n",
      kPolicy, html_text(title), read_file(data_folder() / "report/report.css"), more_css, body);
}

}  // namespace haqa
