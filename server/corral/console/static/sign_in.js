(() => {
  "use strict";
  const said = document.querySelector("#said");
  const enter = async (token) => {
    let answer;
    try {
      answer = await fetch("/", { headers: { authorization: `Bearer ${token}`, accept: "text/html" } });
    } catch {
      said.textContent = "The server does not answer.";
      return;
    }
    if (answer.status === 401) {
      sessionStorage.removeItem("corral-token");
      said.textContent = "This is no valid token.";
    } else if (!answer.ok) {
      said.textContent = `The server refused it: ${answer.status}.`;
    } else {
      sessionStorage.setItem("corral-token", token);
      const page = await answer.text();
      document.open();
      document.write(page);
      document.close();
    }
  };
  document.querySelector("#form").addEventListener("submit", (event) => {
    event.preventDefault();
    // A header field holds no other characters; fetch would throw.
    const token = document.querySelector("#token").value.trim();
    if (/^[\x21-\x7e]+$/.test(token)) enter(token);
    else said.textContent = "This is no valid token.";
  });
  const kept = sessionStorage.getItem("corral-token");
  if (kept) enter(kept);
})();
