'use strict';

// A slider shows one of several pictures; where there are several ways, a choice between them too.
for (const figure of document.querySelectorAll('figure.slider')) {
  const ways = JSON.parse(figure.querySelector('script').textContent);
  const range = figure.querySelector('input[type=range]');
  const picture = figure.querySelector('img');
  const output = figure.querySelector('output');
  const show = () => {
    const chosen = figure.querySelector('input[type=radio]:checked');
    const frame = ways[chosen ? Number(chosen.value) : 0][Number(range.value)];
    picture.src = frame.src;
    picture.alt = frame.alt;
    output.textContent = frame.caption;
    range.setAttribute('aria-valuetext', frame.caption);
  };
  for (const input of figure.querySelectorAll('input')) input.addEventListener('input', show);
  show();
}

// Curves, by uPlot.
const WHOLE = [...Array(8).keys()].flatMap((n) => [1, 2, 5].map((step) => step * 10 ** n));
const COLOURS = ['#0a58ca', '#c2410c', '#15803d', '#7e22ce', '#0e7490', '#a16207', '#be123c'];
for (const place of document.querySelectorAll('.curves')) {
  const drawn = JSON.parse(place.querySelector('script').textContent);
  const xs = [...new Set(drawn.series.flatMap((s) => s.x))].sort((a, b) => a - b);
  const at = new Map(xs.map((x, i) => [x, i]));
  const data = [xs, ...drawn.series.map((s) => {
    const ys = new Array(xs.length).fill(null);
    s.x.forEach((x, i) => { ys[at.get(x)] = s.y[i]; });
    return ys;
  })];
  const whole = xs.every(Number.isInteger);
  const marks = (u) => {
    u.ctx.save();
    u.ctx.strokeStyle = '#888';
    u.ctx.fillStyle = '#57606a';
    u.ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
    u.ctx.setLineDash([4, 4]);
    drawn.marks.forEach((mark, i) => {
      const x = u.valToPos(mark.x, 'x', true);
      u.ctx.beginPath();
      u.ctx.moveTo(x, u.bbox.top);
      u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
      u.ctx.stroke();
      u.ctx.fillText(mark.text, x + 4, u.bbox.top + (14 + 14 * (i % 3)) * devicePixelRatio);
    });
    u.ctx.restore();
  };
  const plot = new uPlot({
    width: place.clientWidth,
    height: 320,
    scales: { x: { time: false }, y: drawn.range ? { range: drawn.range } : {} },
    axes: [{ label: drawn.x, ...(whole ? { incrs: WHOLE } : {}) }, { label: drawn.y, size: 70 }],
    series: [{ label: drawn.x }, ...drawn.series.map((s, i) => ({
      label: s.name,
      stroke: COLOURS[i % COLOURS.length],
      width: s.points ? 0 : 1.5,
      points: { show: s.points, size: 7, fill: COLOURS[i % COLOURS.length] },
      spanGaps: !s.points,
    }))],
    hooks: { draw: [marks] },
  }, data, place);
  addEventListener('resize', () => plot.setSize({ width: place.clientWidth, height: 320 }));
}
