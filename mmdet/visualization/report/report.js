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

const dialog = document.querySelector('dialog');
if (cards && dialog) {
  const large = dialog.querySelector('img');
  cards.addEventListener('click', event => {
    const small = event.target.closest('.open')?.querySelector('img');
    if (!small) return;
    large.src = small.src;
    large.alt = small.alt;
    large.style.setProperty('--ratio', small.naturalWidth / small.naturalHeight);
    dialog.querySelector('p').textContent = small.closest('figure').dataset.name;
    dialog.showModal();
  });
  dialog.addEventListener('click', () => dialog.close());
}
