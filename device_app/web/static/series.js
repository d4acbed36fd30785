// The page of a series: arrow keys move through its slices, and the page says so when the series changes.
"use strict";

const links = [...document.querySelectorAll(".grid a")];
function move(by) {
  const at = links.indexOf(document.activeElement);
  const next = links[Math.min(Math.max(at < 0 ? 0 : at + by, 0), links.length - 1)];
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}
const columns = () => links.findIndex(link => link.offsetTop > links[0].offsetTop) + 1 || links.length + 1;
edge.keys.ArrowRight = () => move(1);
edge.keys.ArrowLeft = () => move(-1);
edge.keys.ArrowDown = () => move(Math.max(1, columns() - 1));
edge.keys.ArrowUp = () => move(-Math.max(1, columns() - 1));
edge.keys.Escape = () => document.querySelector("a[rel=up]").click();
edge.keys.g = () => document.getElementById("agree")?.focus();
edge.watchDeletion();
