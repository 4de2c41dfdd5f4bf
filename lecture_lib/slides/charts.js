// Charts that a notebook saved as data, drawn by plotly's and vega's own scripts. A hidden slide has no sizes, so all
// are laid out meanwhile.
document.documentElement.classList.add("fitting");
for (const element of document.querySelectorAll("[data-chart]")) {
  const chart = JSON.parse(element.querySelector("script").textContent);
  const place = document.createElement("div");
  element.append(place);
  try {
    if (element.dataset.chart === "plotly") {
      const { width = 1100, height = 480 } = chart.layout ?? {};
      const layout = { ...chart.layout, width, height, font: { size: 18, ...chart.layout?.font } };
      const config = { displaylogo: false, ...chart.config };
      await Plotly.newPlot(place, { data: chart.data, layout, config, frames: chart.frames });
    } else {
      await vegaEmbed(place, chart, { actions: false, renderer: "svg" });
    }
  } catch (error) {
    console.error(error);
    element.textContent = `This chart failed: ${error.message}`;
  }
}
document.documentElement.classList.remove("fitting");
