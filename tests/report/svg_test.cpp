#include "report/svg.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "report/html.h"
#include "report/numbers.h"
#include "tests/markup_check.h"
#include "tests/test_support.h"

namespace echo {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

size_t occurrences(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

double luminance(const std::string& color) {
  double sum = 0.0;
  const double weights[] = {0.2126, 0.7152, 0.0722};
  for (size_t i = 0; i < 3; ++i) {
    const double c = std::stoi(color.substr(1 + 2 * i, 2), nullptr, 16) / 255.0;
    sum += weights[i] * (c <= 0.04045 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4));
  }
  return sum;
}

TEST(HtmlTest, EscapesEverythingThatCouldEndATextOrAnAttribute) {
  EXPECT_EQ(escape_html("<a href=\"x\">'&'</a>"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;");
  EXPECT_EQ(escape_html("caf\xC3\xA9 \xE6\x97\xA5 \xF0\x9F\x99\x82"), "caf\xC3\xA9 \xE6\x97\xA5 \xF0\x9F\x99\x82");
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(escape_html(std::string("a\0b\x1B\x7F\tc", 7)), "a" + bad + "b" + bad + bad + "\tc");
  EXPECT_EQ(escape_html("\xC3<"), bad + "&lt;") << "a cut character must not swallow the next";
  EXPECT_EQ(escape_html("\xC0\xBC"), bad + bad) << "overlong <";
  EXPECT_EQ(escape_html("\xED\xA0\x80"), bad + bad + bad) << "surrogate";
  EXPECT_EQ(escape_html("\xF4\x90\x80\x80"), bad + bad + bad + bad) << "above U+10FFFF";
  EXPECT_EQ(escape_html("\xEF\xBF\xBE\xEF\xBF\xBF"), bad + bad + bad + bad + bad + bad) << "U+FFFE, U+FFFF: XML forbids them";
}

TEST(HtmlTest, PageIsWellFormedSelfContainedAndEscapesItsTitle) {
  const HtmlTable table{{"<a>", "b"}, {{"1 & 2", "</td>"}}, {false, true}};
  const std::string page = html_page("</title><script>x</script>", html_table(table) + html_warnings({"<w>"}));
  EXPECT_EQ(markup_problem(page), "");
  EXPECT_EQ(page.find("<script>"), std::string::npos);
  expect_contains(page, "<td class=\"n\">&lt;/td&gt;</td>");
  EXPECT_EQ(page.find("http://"), std::string::npos);
  EXPECT_EQ(page.find("https://"), std::string::npos);
  expect_contains(page, "prefers-color-scheme: dark");
  EXPECT_EQ(html_warnings({}), "");
}

TEST(MarkupCheckTest, FindsWhatIsNotWellFormed) {  // the check itself can fail
  EXPECT_EQ(markup_problem("<a><b/></a>"), "");
  for (const char* wrong : {"<a><b></a>", "<a>", "</a>", "<a x=1></a>", "<a>&</a>", "<a>&nbsp;</a>", "<a x=\"<\"/>", "<a",
                            "<a/><b/>", "<a x=\"1\" x=\"2\"/>"})
    EXPECT_NE(markup_problem(wrong), "") << wrong;
}

TEST(SvgTest, SequentialColorsDarkenSteadilyAndTextOnThemIsReadable) {
  double previous = 1.0;
  for (int i = 0; i <= 100; ++i) {
    const double now = luminance(sequential_color(i / 100.0));
    EXPECT_LT(now, previous) << "at " << i;
    previous = now;
    const double text = needs_white_text(i / 100.0) ? 1.0 : 0.0;
    const double contrast = (std::max(now, text) + 0.05) / (std::min(now, text) + 0.05);
    EXPECT_GE(contrast, 4.5) << "WCAG AA at " << i;  // the better of black and white always reaches 4.58
  }
  EXPECT_EQ(sequential_color(kNan), sequential_color(0.0));
  EXPECT_EQ(sequential_color(-5), sequential_color(0.0));
  EXPECT_EQ(sequential_color(7), sequential_color(1.0));
}

TEST(SvgTest, ShortNumbers) {
  EXPECT_EQ(short_number(0.25), "0.25");
  EXPECT_EQ(short_number(2048), "2048");
  EXPECT_EQ(short_number(32000), "32k");
  EXPECT_EQ(short_number(1'100'048'384), "1.1G");
  EXPECT_EQ(short_number(-1.5e6), "-1.5M");
  EXPECT_EQ(short_number(0.00025), "2.5e-4");
  EXPECT_EQ(short_number(1e-5), "1e-5");
  EXPECT_EQ(short_number(0.001), "0.001");
  EXPECT_EQ(short_number(kNan), "-");
}

TEST(SvgTest, HeatMapIsWellFormedAndWritesValuesUpTo24Layers) {
  for (const int64_t size : {1, 2, 24, 25, 130}) {
    SvgHeatMap map{"a < b", "layer", std::vector<double>(size_t(size * size), 0.25), {}, 0.0, 1.0};
    map.values[0] = kNan;
    for (const SvgUse use : {SvgUse::inside_page, SvgUse::standalone}) {
      const std::string svg = svg_heat_map(map, use);
      EXPECT_EQ(markup_problem(svg), "") << size;
      EXPECT_EQ(occurrences(svg, "class=\"cell\""), size_t(size * size));
      EXPECT_EQ(occurrences(svg, ">0.25</text>"), size_t(size <= 24 ? size * size - 1 : 0) + 1) << "one is the colour bar's";
    }
  }
  SvgHeatMap map{"t", "layer", {1, 2, 3}, {}, 0.0, 1.0};
  error_message(ExitCode::internal, [&] { svg_heat_map(map); });
  map.values.push_back(4);
  map.hover = {"<1>", "2", "3", "4"};
  EXPECT_NE(svg_heat_map(map).find("<title>&lt;1&gt;</title>"), std::string::npos);
}

TEST(SvgTest, LineChartDrawsAnythingWithoutNonNumbers) {
  SvgLineChart chart;
  chart.title = "loss \"<&>\"";
  chart.x_label = "step";
  chart.y_label = "loss <nats>";
  for (const bool log_y : {false, true}) {
    for (const std::vector<double>& y : {std::vector<double>{},
                                         {1.0},
                                         {0.0, 0.0},
                                         {kNan, kNan},
                                         {-1.0, 2.0, kNan, 3.0, kInfinity},
                                         {1e308, -1e308},
                                         {1e-300, 1e-310, 5.0},
                                         {1e15, 1e15 + 1},
                                         {3.0, 3.0 + 1e-15}}) {
      chart.log_y = log_y;
      SvgSeries series{"<s>", {}, y, false, false};
      for (size_t i = 0; i < y.size(); ++i) series.x.push_back(double(i) * 100);
      chart.series = {series, series};
      chart.x_bands = {{-5.0, 50.0, "b & b"}};
      chart.y_marks = {{1.0, 2.0, "<gap>"}};
      for (const SvgUse use : {SvgUse::inside_page, SvgUse::standalone}) {
        const std::string svg = svg_line_chart(chart, use);
        EXPECT_EQ(markup_problem(svg), "");
        EXPECT_EQ(svg.find("nan"), std::string::npos) << svg;
        EXPECT_EQ(svg.find("inf"), std::string::npos) << svg;
      }
    }
  }
  EXPECT_EQ(markup_problem(svg_line_chart({})), "");
}

TEST(SvgTest, LineChartInterruptsTheLineAtNonNumbersAndKeepsPeaksWhenThinning) {
  SvgLineChart chart;
  chart.series = {{"s", {0, 1, 2, 3, 4}, {1, 2, kNan, 2, 1}, false, false}};
  const std::string svg = svg_line_chart(chart);
  const size_t path = svg.find("class=\"series l0\"");
  const std::string line = svg.substr(svg.rfind("<path", path), path - svg.rfind("<path", path));
  EXPECT_EQ(occurrences(line, "M"), 2u) << line;

  SvgSeries many{"m", {}, {}, false, false};
  for (int i = 0; i < 100'000; ++i) {
    many.x.push_back(i);
    many.y.push_back(i == 77'777 ? 50.0 : 1.0);
  }
  chart.series = {many};
  const std::string thin = svg_line_chart(chart);
  EXPECT_LT(thin.size(), 60'000u);
  // The only peak among 100,000 points is in the picture: without it the picture is different.
  chart.series[0].y[77'777] = 1.0;
  EXPECT_NE(svg_line_chart(chart), thin);
}

TEST(SvgTest, PlanStripNamesLeaderAndFollowers) {
  const std::string svg = svg_plan_strip({0, 1, 1, 3, 1});
  EXPECT_EQ(markup_problem(svg), "");
  EXPECT_EQ(occurrences(svg, "<rect"), 5u);
  EXPECT_EQ(occurrences(svg, "class=\"f0 faint\""), 2u);
  EXPECT_NE(svg.find("layer 4 uses the attention of layer 1"), std::string::npos);
  EXPECT_NE(svg.find("layer 1 computes its own attention and lends it to 2 more"), std::string::npos);
  EXPECT_EQ(markup_problem(svg_plan_strip(std::vector<int64_t>(300, 0), {}, SvgUse::standalone)), "");
  EXPECT_NE(svg_plan_strip({0}, {"<h>"}).find("&lt;h&gt;"), std::string::npos);
  error_message(ExitCode::internal, [] { svg_plan_strip({1, 1}); });
}

TEST(SvgTableTest, HasOneTextPerCellAndEscapesIt) {
  const SvgTable table{"a & b", {"model", "loss"}, {{"<one>", "1.5"}, {"two", "2.5"}, {"three", "3.5"}}};
  const std::string picture = svg_table(table, SvgUse::standalone);
  EXPECT_EQ(markup_problem(picture), "");
  EXPECT_NE(picture.find(">&lt;one&gt;</text>"), std::string::npos);
  EXPECT_EQ(occurrences(picture, "<text "), 1u + 2 + 3 * 2) << "the title and every cell";
  EXPECT_EQ(occurrences(picture, "text-anchor=\"end\""), 4u) << "numbers end at one line, their header too";
}

TEST(SvgTableTest, IsAsWideAsItsWidestCellsInCharacters) {
  const auto width = [](const std::string& cell) {
    const std::string picture = svg_table({"", {"model"}, {{cell}}});
    return std::stod(picture.substr(picture.find("width=\"") + 7));
  };
  EXPECT_GT(width("0123456789"), width("012345678"));
  EXPECT_EQ(width("\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9"), width("eeeeee")) << "bytes are not characters";
}

TEST(SvgTableTest, RowsThatDoNotFitTheHeadersAreRefused) {
  EXPECT_NE(error_message(ExitCode::internal,
                          [] {
                            svg_table({"", {"a", "b"}, {{"1"}}});
                          })
                .find("1 cells under 2 headers"),
            std::string::npos);
}

}  // namespace
}  // namespace echo
