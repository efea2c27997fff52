// Loads plotly's FigureWidget late. Messages from the kernel are kept until it is ready, then replayed.
const MESSAGES = ["addTraces", "deleteTraces", "moveTraces", "restyle", "relayout", "update", "animate",
  "removeLayoutProps", "removeTraceProps"].map((name) => `_py2js_${name}`);

// The page evaluates each version of plotly once, for all figures.
async function plotly(model) {
  const source = await model.widget_manager.get_model(model.get("_plotly").replace("IPY_MODEL_", ""));
  const versions = (globalThis.ltkdPlotly ??= {});
  versions[model.get("_plotly_version")] ??= import(
    URL.createObjectURL(new Blob([source.get("value")], { type: "text/javascript" })),
  );
  return (await versions[model.get("_plotly_version")]).default;
}

export default () => {
  let figure, ready;
  return {
    initialize({ model, ...rest }) {
      const kept = [];
      const keepers = MESSAGES.map((name) => [`change:${name}`, () => {
        if (model.get(name)) kept.push([name, model.get(name)]); // plotly sets each back to null
      }]);
      keepers.forEach(([event, keep]) => model.on(event, keep));
      ready = plotly(model).then(async (make) => {
        const handlers = {};
        let replayed = {};
        const heard = {
          ...model,
          get: (name) => replayed[name] ?? model.get(name),
          on: (event, handler) => {
            (handlers[event] ??= []).push(handler);
            model.on(event, handler);
          },
        };
        figure = make();
        await figure.initialize({ model: heard, ...rest });
        keepers.forEach(([event, keep]) => model.off(event, keep));
        for (const [name, value] of kept) {
          replayed = { [name]: value };
          handlers[`change:${name}`]?.forEach((handler) => handler());
        }
        replayed = {};
      });
    },
    async render(context) {
      await ready;
      const remove = await figure.render(context);
      // Plotly draws it 700 pixels wide before it is in the page, and adapts its width only when the window is resized.
      const observer = new ResizeObserver(() => window.dispatchEvent(new Event("resize")));
      observer.observe(context.el);
      return () => {
        observer.disconnect();
        remove();
      };
    },
  };
};
