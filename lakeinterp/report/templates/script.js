"use strict";
(() => {
  const bar = document.querySelector(".bar");
  const lists = [...document.querySelectorAll(".list")];
  const items = lists.flatMap((list) => [...list.children]);
  if (!bar || !items.length) return;
  const field = (name) => bar.querySelector(`[name=${name}]`);
  const shown = bar.querySelector("output");
  const texts = new Map(items.map((item) => [item, textOf(item)]));
  const number = (text) => (text === undefined || text === "" ? -Infinity : Number(text));

  function textOf(item) {
    const tokens = item.querySelector(".tokens");
    const said = [...item.querySelectorAll("summary bdi")].map((node) => node.textContent);
    return [item.dataset.l, ...said, tokens ? tokens.textContent : ""].join("\n").toLowerCase();
  }

  function pairOf(item) {
    return item.querySelectorAll(".pair")[field("pair") ? Number(field("pair").value) : 0];
  }

  function keyOf(item, by) {
    if (by === "latent") return -number(item.dataset.l);
    return number(by in item.dataset ? item.dataset[by] : pairOf(item).dataset[by]);
  }

  function sort() {
    const by = field("sort").value;
    const sign = by === "worst" ? -1 : 1;
    const key = (item) => {
      const value = keyOf(item, by === "worst" ? "v" : by);
      return value === -Infinity ? value : sign * value;
    };
    for (const list of lists) {
      const order = [...list.children].map((item, i) => [item, key(item), i]);
      order.sort((a, b) => (a[1] === b[1] ? a[2] - b[2] : b[1] - a[1]));
      list.append(...order.map(([item]) => item));
    }
  }

  function filter() {
    const wanted = field("search").value.trim().toLowerCase();
    const hookpoint = field("hookpoint") ? field("hookpoint").value : "";
    let n = 0;
    for (const item of items) {
      const fits = texts.get(item).includes(wanted) && (!hookpoint || item.dataset.h === hookpoint);
      item.hidden = !fits;
      n += fits;
    }
    shown.textContent = n === items.length ? `${n} latents` : `${n} of ${items.length} latents`;
  }

  function choose() {
    for (const item of items) {
      const chosen = pairOf(item);
      for (const pair of item.querySelectorAll(".pair")) pair.hidden = pair !== chosen;
    }
    sort();
  }

  function reveal() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.matches("details")) target.open = true;
  }

  bar.hidden = false;
  field("search").addEventListener("input", filter);
  field("sort").addEventListener("change", sort);
  if (field("hookpoint")) field("hookpoint").addEventListener("change", filter);
  if (field("pair")) field("pair").addEventListener("change", choose);
  addEventListener("hashchange", reveal);
  filter();
  reveal();
})();
