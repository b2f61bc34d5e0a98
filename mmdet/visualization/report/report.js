'use strict';
const cards = document.querySelector('.cards');
const bar = document.querySelector('.sort');
if (cards && bar) {
  const orders = {
    best: (a, b) => b.dataset.score - a.dataset.score || orders.name(a, b),
    worst: (a, b) => a.dataset.score - b.dataset.score || orders.name(a, b),
    name: (a, b) => a.dataset.name.localeCompare(b.dataset.name, undefined, {numeric: true}),
  };
  bar.hidden = false;
  bar.addEventListener('click', event => {
    const order = event.target.dataset.order;
    if (!order) return;
    for (const button of bar.querySelectorAll('button'))
      button.setAttribute('aria-pressed', button === event.target);
    cards.append(...[...cards.children].sort(orders[order]));
  });
}
