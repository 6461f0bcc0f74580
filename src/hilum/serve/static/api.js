// Requests to the desk's own server: token, JSON, and errors as sentences.

const token = document.querySelector("meta[name=hilum-token]").content;
const MEANS = {
  401: "this page's session has ended; open the address that `hilum serve` printed",
  413: "the file is too large",
};

/** An answer other than 2xx. `status` is HTTP's; `current` is the revision that came between
 *  (409). */
export class Refused extends Error {
  constructor(status, answer) {
    super(answer.error ?? MEANS[status] ?? `the server answered ${status}`);
    this.status = status;
    this.current = answer.current;
  }
}

async function checked(response) {
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  throw new Refused(response.status, answer);
}

async function request(path, options = {}) {
  try {
    return await checked(await fetch(path, { credentials: "same-origin", ...options }));
  } catch (error) {
    if (error instanceof TypeError)
      throw new Error("the server does not answer; is `hilum serve` still running?");
    throw error;
  }
}

export async function getJson(path, options) {
  return (await request(path, options)).json();
}

export async function getBlob(path, options) {
  return (await request(path, options)).blob();
}

/** Return the response itself, for the pixels, whose geometry stands in the headers. */
export const get = request;

/** Send a change; `body` is an object (as JSON), or a Blob or FormData as it is. */
export async function send(method, path, body, headers = {}) {
  const raw = body instanceof Blob || body instanceof FormData;
  const type = raw || body === undefined ? {} : { "Content-Type": "application/json" };
  const response = await request(path, {
    method,
    headers: { "X-Hilum-Token": token, ...type, ...headers },
    body: raw || body === undefined ? body : JSON.stringify(body),
  });
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}
