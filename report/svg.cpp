#include "report/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "report/svg_canvas.h"

namespace echo {
namespace {

using Color = std::array<double, 3>;  // red, green, blue from 0 to 255

// Cream, green, teal, blue, deep blue: chosen so that the relative luminance falls from 0.93 to 0.02 without a step.
constexpr std::array<Color, 6> kScale = {
    {{253, 248, 222}, {198, 226, 186}, {118, 190, 178}, {54, 142, 172}, {36, 89, 145}, {28, 34, 84}}};

Color color_at(double fraction) {
  if (!(fraction > 0.0)) return kScale.front();  // also for NaN
  if (fraction >= 1.0) return kScale.back();
  const double position = fraction * double(kScale.size() - 1);
  const size_t below = size_t(position);
  const double part = position - double(below);
  Color mixed;
  for (size_t i = 0; i < 3; ++i) mixed[i] = kScale[below][i] + part * (kScale[below + 1][i] - kScale[below][i]);
  return mixed;
}

// WCAG 2: the contrast with white equals the one with black at a luminance of 0.179.
double relative_luminance(const Color& color) {
  const std::array<double, 3> weights = {0.2126, 0.7152, 0.0722};
  double sum = 0.0;
  for (size_t i = 0; i < 3; ++i) {
    const double c = color[i] / 255.0;
    sum += weights[i] * (c <= 0.04045 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4));
  }
  return sum;
}

}  // namespace

std::string sequential_color(double fraction) {
  const Color color = color_at(fraction);
  return fmt::format("#{:02x}{:02x}{:02x}", int(std::lround(color[0])), int(std::lround(color[1])), int(std::lround(color[2])));
}

bool needs_white_text(double fraction) { return relative_luminance(color_at(fraction)) < 0.179; }

std::string short_number(double value) {
  const double size = std::abs(value);
  if (!std::isfinite(value)) return "-";
  if (size >= 1e12) return fmt::format("{:.3g}", value);
  if (size >= 1e9) return fmt::format("{:.4g}G", value / 1e9);
  if (size >= 1e6) return fmt::format("{:.4g}M", value / 1e6);
  if (size >= 1e4) return fmt::format("{:.4g}k", value / 1e3);
  if (size >= 1e-3 || size == 0.0) return fmt::format("{:.4g}", value);
  // 1.4e-4 rather than 1.4e-04
  const int exponent = int(std::floor(std::log10(size) + 1e-12));
  return fmt::format("{:.4g}e{}", value / std::pow(10.0, exponent), exponent);
}

std::string svg_heat_map(const SvgHeatMap& map, SvgUse use) {
  const int64_t size = int64_t(std::llround(std::sqrt(double(map.values.size()))));
  ECHO_CHECK(size > 0 && size * size == int64_t(map.values.size()), "heat map: ", map.values.size(),
             " values are not a square");
  ECHO_CHECK(map.hover.empty() || map.hover.size() == map.values.size(), "heat map: ", map.hover.size(), " hover texts");
  const double cell = std::clamp(std::floor(760.0 / double(size)), 3.0, 44.0);
  const double side = cell * double(size), left = 56.0, top = 44.0;
  const double span = map.high > map.low ? map.high - map.low : 1.0;
  const bool written = size <= 24;
  const int64_t label_step = std::max<int64_t>(1, int64_t(std::ceil(20.0 / cell)));

  SvgCanvas canvas;
  for (int64_t row = 0; row < size; ++row) {
    for (int64_t column = 0; column < size; ++column) {
      const size_t at = size_t(row * size + column);
      const double value = map.values[at], fraction = (value - map.low) / span;
      const double x = left + cell * double(column), y = top + cell * double(row);
      const std::string hover =
          map.hover.empty() ? fmt::format("{} and {}: {}", row, column, short_number(value)) : map.hover[at];
      // A hair wider than the cell: neighbours overlap and no background shines through between them.
      canvas.add(
          "<rect class=\"cell\" x=\"{:.0f}\" y=\"{:.0f}\" width=\"{:.1f}\" height=\"{:.1f}\" "
          "fill=\"{}\"><title>{}</title></rect>\n",
          x, y, cell + 0.4, cell + 0.4, sequential_color(fraction), escape_html(hover));
      if (written && std::isfinite(value))
        canvas.add(
            "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\" font-size=\"{:.1f}\" fill=\"{}\" "
            "pointer-events=\"none\">{:.2f}</text>\n",
            x + cell / 2, y + cell * 0.62, std::clamp(cell * 0.34, 9.0, 13.0),
            needs_white_text(fraction) ? "#ffffff" : "#10131a", value);
    }
  }
  for (int64_t i = 0; i < size; i += label_step) {
    const double middle = cell * (double(i) + 0.5);
    canvas.text(left + middle, top - 7, "middle", "soft-ink", 12, std::to_string(i));
    canvas.text(left - 7, top + middle + 4, "end", "soft-ink", 12, std::to_string(i));
  }
  canvas.text(left + side / 2, top - 26, "middle", "ink", 13, map.axis_label);
  canvas.text(16, top + side / 2, "middle", "ink", 13, map.axis_label,
              fmt::format("transform=\"rotate(-90 16 {:.1f})\"", top + side / 2));

  constexpr int kSteps = 48;  // of the colour bar
  const double bar = left + side + 26, bar_height = std::max(side, 120.0), step = bar_height / kSteps;
  for (int i = 0; i < kSteps; ++i)
    canvas.add("<rect x=\"{:.1f}\" y=\"{:.2f}\" width=\"16\" height=\"{:.2f}\" fill=\"{}\"/>\n", bar, top + step * i,
               step + 0.4, sequential_color(1.0 - (i + 0.5) / kSteps));
  for (int i = 0; i <= 4; ++i)
    canvas.text(bar + 22, top + bar_height * i / 4 + 4, "start", "soft-ink", 12,
                fmt::format("{:.2f}", map.high - span * i / 4));
  return canvas.finish(bar + 66, top + bar_height + 16, map.title, use);
}

std::string svg_plan_strip(const std::vector<int64_t>& leaders, const std::vector<std::string>& hover, SvgUse use) {
  const int64_t layers = int64_t(leaders.size());
  ECHO_CHECK(layers > 0, "plan strip: no layers");
  ECHO_CHECK(hover.empty() || hover.size() == leaders.size(), "plan strip: ", hover.size(), " hover texts for ", layers,
             " layers");
  std::vector<int64_t> followers(leaders.size(), 0), color(leaders.size(), -1);
  for (int64_t i = 0; i < layers; ++i) {
    const int64_t leader = leaders[size_t(i)];
    ECHO_CHECK(leader >= 0 && leader <= i, "plan strip: layer ", i, " uses layer ", leader);
    if (leader != i) ++followers[size_t(leader)];
  }
  int64_t next_color = 0;
  for (int64_t i = 0; i < layers; ++i)
    if (followers[size_t(i)] > 0) color[size_t(i)] = next_color++ % 8;

  const double width = std::clamp(std::floor(1000.0 / double(layers)), 4.0, 48.0), height = 42.0;
  SvgCanvas canvas;
  for (int64_t i = 0; i < layers; ++i) {
    const int64_t leader = leaders[size_t(i)], block = color[size_t(leader)];
    const bool follows = leader != i;
    std::string text = fmt::format("layer {} computes its own attention", i);
    if (follows) text = fmt::format("layer {} uses the attention of layer {}", i, leader);
    if (followers[size_t(i)] > 0) text += fmt::format(" and lends it to {} more", followers[size_t(i)]);
    if (!hover.empty()) text = hover[size_t(i)];
    const std::string look = block < 0 ? "plain" : fmt::format("f{}{}", block, follows ? " faint" : "");
    // A gap of two units before each cell that begins a block of its own; followers join their neighbour.
    const bool joined = i > 0 && leaders[size_t(i - 1)] == leader && follows;
    const double gap = joined || width < 8 ? 0.0 : 2.0;
    canvas.add("<rect x=\"{:.1f}\" y=\"1\" width=\"{:.1f}\" height=\"{:.0f}\" class=\"{}\"><title>{}</title></rect>\n",
               1 + width * double(i) + gap, width - gap, height, look, escape_html(text));
    const double middle = 1 + width * (double(i) + 0.5) + gap / 2;
    const bool leads = block >= 0 && !follows;
    const std::string still = fmt::format("pointer-events=\"none\"{}", leads ? " font-weight=\"700\"" : "");
    const double size = std::min(14.0, width * 0.5);
    if (width >= 13)
      canvas.text(middle, follows && width >= 30 ? 19 : 26, "middle", leads ? "on" : "ink", size, std::to_string(i), still);
    if (follows && width >= 30)
      canvas.text(middle, 35, "middle", "soft-ink", 11, fmt::format("\u2190 {}", leader), "pointer-events=\"none\"");
  }
  return canvas.finish(width * double(layers) + 2, height + 2, fmt::format("Plan of {} layers", layers), use);
}

}  // namespace echo
