#include "hyena/sweep/svg.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>

#include <fmt/format.h>

namespace hyena::sweep {
namespace {

constexpr double kPanelWidth = 300.0;
constexpr double kPanelHeight = 220.0;
constexpr double kLeft = 60.0;
constexpr double kTop = 54.0;
constexpr double kGap = 24.0;
// Okabe and Ito's palette, which colour-blind readers can tell apart.
constexpr std::array kColors{"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                             "#e69f00", "#56b4e9", "#000000", "#999933"};

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

struct Scale {
  Axis axis = Axis::kLinear;
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();

  [[nodiscard]] double transformed(double x) const {
    return axis == Axis::kLog2 ? std::log2(std::max(x, 1e-300)) : x;
  }
  void include(double x) {
    low = std::min(low, transformed(x));
    high = std::max(high, transformed(x));
  }
  /// 0 .. 1
  [[nodiscard]] double operator()(double x) const {
    return high > low ? (transformed(x) - low) / (high - low) : 0.5;
  }
};

/// Where the x axis is labelled: at the data itself where that is a handful of values.
std::vector<double> ticks(const Chart& chart, const Scale& scale) {
  std::set<double> values;
  for (const Panel& panel : chart.panels) {
    for (const Series& series : panel.series) {
      values.insert(series.x.begin(), series.x.end());
    }
  }
  if (values.size() <= 9) {
    return {values.begin(), values.end()};
  }
  std::vector<double> even;
  const double step = std::pow(10.0, std::floor(std::log10(scale.high - scale.low)));
  const auto last = static_cast<std::int64_t>(std::floor(scale.high / step));
  for (auto i = static_cast<std::int64_t>(std::ceil(scale.low / step)); i <= last; ++i) {
    even.push_back(static_cast<double>(i) * step);
  }
  return even;
}

std::string number(double x) {
  return x >= 1024.0 && std::fmod(x, 1024.0) == 0.0 ? fmt::format("{:g}K", x / 1024.0)
                                                    : fmt::format("{:g}", x);
}

}  // namespace

std::string draw(const Chart& chart) {
  Scale scale{.axis = chart.x_axis};
  std::vector<const Series*> legend;
  for (const Panel& panel : chart.panels) {
    for (const Series& series : panel.series) {
      for (const double x : series.x) {
        scale.include(x);
      }
      const bool is_new = std::none_of(legend.begin(), legend.end(), [&](const Series* known) {
        return known->label == series.label;
      });
      if (!series.is_dashed && is_new) {
        legend.push_back(&series);
      }
    }
  }
  const auto panels = static_cast<double>(chart.panels.size());
  const double width = kLeft + panels * (kPanelWidth + kGap) + 150.0;
  const double height =
      std::max(kTop + kPanelHeight + 56.0, kTop + 18.0 * static_cast<double>(legend.size()) + 20.0);
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" "
      "viewBox=\"0 0 {0:.0f} {1:.0f}\" font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
      "<text x=\"{2}\" y=\"20\" font-size=\"15\">{3}</text>\n",
      width, height, kLeft, escaped(chart.title));
  const auto y_of = [&](double y) {
    const double share =
        (std::clamp(y, chart.y_min, chart.y_max) - chart.y_min) / (chart.y_max - chart.y_min);
    return kTop + kPanelHeight * (1.0 - share);
  };
  double left = kLeft;
  for (const Panel& panel : chart.panels) {
    const auto x_of = [&](double x) { return left + kPanelWidth * scale(x); };
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                       left + kPanelWidth / 2, kTop - 8, escaped(panel.title));
    for (int i = 0; i <= 4; ++i) {
      const double y = chart.y_min + (chart.y_max - chart.y_min) * i / 4.0;
      svg += fmt::format(
          "<line x1=\"{0:.1f}\" x2=\"{1:.1f}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\" stroke=\"#ddd\"/>\n",
          left, left + kPanelWidth, y_of(y));
      if (left == kLeft) {
        svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{:g}</text>\n",
                           left - 6, y_of(y) + 4, y);
      }
    }
    for (const double x : ticks(chart, scale)) {
      svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>\n",
                         x_of(x), kTop + kPanelHeight + 18, number(x));
    }
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>\n",
                       left + kPanelWidth / 2, kTop + kPanelHeight + 38, escaped(chart.x_label));
    for (const Series& series : panel.series) {
      const char* color = kColors.at(series.color % kColors.size());
      std::string points;
      for (std::size_t i = 0; i < series.x.size(); ++i) {
        points += fmt::format("{:.1f},{:.1f} ", x_of(series.x[i]), y_of(series.y[i]));
      }
      svg += fmt::format(
          "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\"{}/>\n", points,
          color, series.is_dashed ? "1" : "2", series.is_dashed ? " stroke-dasharray=\"4 3\"" : "");
      if (!series.is_dashed && series.x.size() <= 16) {
        for (std::size_t i = 0; i < series.x.size(); ++i) {
          svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"/>\n",
                             x_of(series.x[i]), y_of(series.y[i]), color);
        }
      }
    }
    left += kPanelWidth + kGap;
  }
  for (std::size_t i = 0; i < legend.size(); ++i) {
    const double y = kTop + 18.0 * static_cast<double>(i);
    svg += fmt::format(
        "<line x1=\"{0:.1f}\" x2=\"{1:.1f}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\" stroke=\"{3}\" "
        "stroke-width=\"3\"/>\n<text x=\"{4:.1f}\" y=\"{5:.1f}\">{6}</text>\n",
        left, left + 16, y, kColors.at(legend[i]->color % kColors.size()), left + 22, y + 4,
        escaped(legend[i]->label));
  }
  svg += fmt::format(
      "<text transform=\"translate(16 {:.1f}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
      kTop + kPanelHeight / 2, escaped(chart.y_label));
  return svg + "</svg>\n";
}

}  // namespace hyena::sweep
