// The summary: a button and a key that open the print dialogue of the browser.
"use strict";

const button = document.getElementById("print");
button.hidden = false;
button.addEventListener("click", () => print());
edge.keys.p = () => print();
edge.keys.Escape = () => document.querySelector("a[rel=up]").click();
