// The token stands after the #, which browsers send to nobody. It goes to the
// login, and out of the address and the history.
"use strict";
(() => {
  const form = document.getElementById("enter");
  const token = location.hash.slice(1);
  history.replaceState(null, "", location.pathname + location.search);
  if (token !== "") {
    form.elements.token.value = token;
    form.submit();
  }
})();
