#include "haqa/dataset/examples.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "haqa/base/error.h"
#include "haqa/base/temporary_folder.h"

namespace haqa {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

class Examples : public testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& content) const {
    std::ofstream(folder_ / name, std::ios::binary) << content;
    return folder_ / name;
  }
  ExampleFile read(const std::string& name, const std::string& content, std::optional<ExampleForm> form = {}) const {
    return read_examples(write(name, content), form);
  }
  /// The error, without the folder.
  std::string error_of(const std::string& name, const std::string& content,
                       std::optional<ExampleForm> form = {}) const {
    const std::string file = write(name, content);
    try {
      read_examples(file, form);
    } catch (const Error& e) {
      const std::string text = e.what(), place = file.substr(0, file.rfind('/') + 1);
      return text.starts_with(place) ? text.substr(place.size()) : text;
    }
    return "no error";
  }

 private:
  const TemporaryFolder folder_;
};

Example answered(const std::string& prompt, const std::string& response) {
  return {{{prompt, false}, {response, true}}};
}

Example document(const std::string& text) {
  return {{{text, true}}};
}

// The texts of stanford_alpaca's PROMPT_DICT, as tatsu-lab/alpaca's field `text` has them.
constexpr const char* kWithInput =
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Input:\n1, 2\n\n### "
    "Response:\n";
constexpr const char* kWithoutInput =
    "Below is an instruction that describes a task. Write a response that appropriately completes the "
    "request.\n\n### Instruction:\nAdd.\n\n### Response:\n";

TEST_F(Examples, OfAlpacaAreTheSameInBothFiles) {
  const std::string with = R"({"instruction": "Add.", "input": "1, 2", "output": "3\n", "text": "passed over"})",
                    without = R"({"output": "\u00fc", "instruction": "Add.", "input": ""})",
                    missing = R"({"instruction": "Add.", "output": " x"})",
                    null = R"({"instruction": "Add.", "input": null, "output": "{}"})";
  const auto expected = ElementsAre(answered(kWithInput, "3\n"), answered(kWithoutInput, "\u00fc"),
                                    answered(kWithoutInput, " x"), answered(kWithoutInput, "{}"));
  const std::string lines = with + "\n" + without + "\r\n\n  \n" + missing + "\n" + null,
                    array = " [" + with + ",\n" + without + ", " + missing + "\n,\n" + null + "]\n";
  for (const std::optional<ExampleForm> form : {std::optional<ExampleForm>(), std::optional(ExampleForm::alpaca)}) {
    EXPECT_THAT(read("a.jsonl", lines, form).examples, expected);
    EXPECT_THAT(read("a.jsonl", lines + "\n", form).examples, expected);
    EXPECT_THAT(read("a.json", array, form).examples, expected);
    EXPECT_THAT(read("no-ending", "\xEF\xBB\xBF" + array, form).examples, expected);
  }
}

TEST_F(Examples, WithoutAResponseAreLeftOutAndCounted) {
  const std::string none = R"({"instruction": "Add.", "output": " \n"})",
                    one = R"({"instruction": "Add.", "output": "3"})";
  const ExampleFile found = read("a.json", "[" + none + "," + one + "," + none + "]");
  EXPECT_THAT(found.examples, ElementsAre(answered(kWithoutInput, "3")));
  EXPECT_EQ(found.without_response, 2u);
  EXPECT_EQ(error_of("a.json", "[" + none + "," + none + "]"),
            "a.json: the responses of all 2 records are empty; give records with a response");
}

TEST_F(Examples, OfChatsTrainOnEveryTurnOfTheAssistant) {
  const std::string line =
      R"({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},)"
      R"( {"role": "assistant", "content": "Ho"}, {"role": "user", "content": "Why?"},)"
      R"( {"role": "assistant", "content": "So."}, {"role": "user", "content": "Hm"}], "id": 7})";
  const Example expected{{{"### System:\nBe brief.\n\n### User:\nHi\n\n### Assistant:\n", false},
                          {"Ho", true},
                          {"\n\n### User:\nWhy?\n\n### Assistant:\n", false},
                          {"So.", true}}};
  EXPECT_THAT(read("c.jsonl", line + "\n").examples, ElementsAre(expected));
  EXPECT_THAT(read("c.json", "[" + line + "," + line + "]", ExampleForm::chat).examples,
              ElementsAre(expected, expected));
}

TEST_F(Examples, OfTextAreDocumentsBetweenBlankLines) {
  const std::string text = "\n\nOne\nline.\r\n \t\nTwo\n\n\n\u00fc three";
  const auto expected = ElementsAre(document("One\nline."), document("Two"), document("\u00fc three"));
  EXPECT_THAT(read("t.txt", text).examples, expected);
  EXPECT_THAT(read("t", text).examples, expected);
  EXPECT_THAT(read("t.txt", text, ExampleForm::document).examples,
              ElementsAre(document("\n\nOne\nline.\n \t\nTwo\n\n\n\u00fc three")));
  EXPECT_THAT(
      read("t.jsonl", "{\"text\": \"One\\nline.\"}\n{\"text\": \"Two\"}\n{\"text\": \"\u00fc three\"}").examples,
      expected);
  EXPECT_THAT(read("t.txt", "[Verse]\n{x}").examples, ElementsAre(document("[Verse]\n{x}")));
}

TEST_F(Examples, SayWhereAndWhatIsWrong) {
  const std::string good = R"({"instruction": "Add.", "input": "", "output": "3"})";
  const struct {
    const char* name;
    std::string content, starts, says;
  } cases[] = {
      {"a.jsonl", good + "\n\n{\"instruction\": \"x\", \n", "a.jsonl:3: not valid JSON (", "one whole object"},
      {"a.jsonl", good + good, "a.jsonl:1: not valid JSON (", ""},
      {"a.jsonl", "instruction: x\n", "a.jsonl:1: not valid JSON (", ""},
      {"a.jsonl", good + "\n{\"instruction\": \"\xff\", \"output\": \"\"}", "a.jsonl:2: not valid JSON (", "UTF-8"},
      {"a.jsonl", good + "\n{\"instruction\": 1e999}", "a.jsonl:2: not valid JSON (", ""},
      {"a.jsonl", good + "\n{\"instruction\": \"x\"}", "a.jsonl:2: the field output is missing", ""},
      {"a.jsonl", good + "\n{\"instruction\": \"x\", \"output\": 3}",
       "a.jsonl:2: the field output is no text but number", ""},
      {"a.jsonl", good + "\n{\"instruction\": \"\", \"output\": \"3\"}", "a.jsonl:2: the field instruction is empty",
       ""},
      {"a.jsonl", good + "\n{\"instruction\": \"x\", \"input\": [], \"output\": \"3\"}",
       "a.jsonl:2: the field input is no text but array", ""},
      {"a.jsonl", good + "\n[1]", "a.jsonl:2: it is no object but array", ""},
      {"a.jsonl", good + "\n{\"prompt\": \"x\"}", "a.jsonl:2: it has neither instruction", "docs/data.md"},
      {"a.jsonl", good + "\n{\"x\": " + std::string(100, '['), "a.jsonl:2: it nests deeper than 64 levels", ""},
      {"a.json", "[" + good + ",\n" + good + ",\n{\"instruction\": \"x\"]", "a.json:3: element 3 of the array is not",
       ""},
      {"a.json", "[" + good + ",\n" + good, "a.json:2: element 3 of the array is not", ""},
      {"a.json", "[" + good + ", 7]", "a.json: element 2 of the array: it is no object but number", ""},
      {"a.json", "[" + good + ", []]", "a.json: element 2 of the array: it is no object but array", ""},
      {"a.json", "[" + good + ", {\"instruction\": \"x\"}]",
       "a.json: element 2 of the array: the field output is missing", ""},
      {"a.json", "[" + good + ", {\"text\": null}]",
       "a.json: element 2 of the array: the field text is no text but null", ""},
      {"a.json", "[" + good + "] x", "a.json:1: element 2 of the array is not", ""},
      {"a.json", std::string(100000, '['), "a.json: element 1 of the array: it nests deeper than 64 levels", ""},
      {"a.json", "[]", "a.json: holds no example", ""},
      {"a.json", "{}", "a.json:1: it has neither instruction", ""},
      {"a.jsonl", "", "a.jsonl: holds no example", ""},
      {"a.txt", " \n\n", "a.txt: holds no example", ""},
      {"a.txt", "good\nbad \xc3\n", "a.txt:2: holds bytes that are no UTF-8", ""},
      {"c.jsonl", R"({"messages": []})", "c.jsonl:1: the field messages is no list of messages", ""},
      {"c.jsonl", R"({"messages": "hello"})", "c.jsonl:1: the field messages is no list of messages", ""},
      {"c.jsonl", R"({"messages": [7]})", "c.jsonl:1: message 1: it is no object but number", ""},
      {"c.jsonl", R"({"messages": [{"role": "user", "content": "x"}]})", "c.jsonl:1: no message is the assistant's",
       ""},
      {"c.jsonl", R"({"messages": [{"role": "user", "content": "x"}, {"role": "tool", "content": "x"}]})",
       "c.jsonl:1: message 2: the role 'tool' is none of", ""},
      {"c.jsonl", R"({"messages": [{"role": "user"}]})", "c.jsonl:1: message 1: the field content is missing", ""},
      {"c.jsonl", R"({"messages": [{"role": null, "content": "x"}]})",
       "c.jsonl:1: message 1: the field role is no text but null", ""}};
  for (const auto& c : cases) {
    const std::string said = error_of(c.name, c.content);
    EXPECT_THAT(said, StartsWith(c.starts));
    EXPECT_THAT(said, HasSubstr(c.says));
    EXPECT_LT(said.size(), 500u);
  }
}

TEST_F(Examples, OfANamedFormAreHeldToIt) {
  EXPECT_THAT(error_of("c.jsonl", R"({"messages": []})", ExampleForm::alpaca),
              StartsWith("c.jsonl:1: the field instruction is missing"));
  EXPECT_THAT(error_of("a.jsonl", R"({"instruction": "x", "output": "y"})", ExampleForm::chat),
              StartsWith("a.jsonl:1: the field messages is missing"));
  EXPECT_THAT(error_of("a", "plain", ExampleForm::alpaca), StartsWith("a: is no JSON"));
  for (const char* name : {"alpaca", "chat", "text", "document"}) EXPECT_NO_THROW(example_form_from(name));
  EXPECT_THROW(example_form_from("Alpaca"), UsageError);
}

TEST_F(Examples, OfNoFileAreAnError) {
  EXPECT_THROW(read_examples("/no/such/file"), Error);
  EXPECT_THROW(read_examples("/"), Error);
  EXPECT_THROW(read_examples("/dev/null"), Error);
}

}  // namespace
}  // namespace haqa
