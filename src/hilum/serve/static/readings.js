// The page of agreement: a choice of finding or reader shows at once.

import { $ } from "./dom.js";

$("#agreement-form").addEventListener("change", (event) => event.currentTarget.requestSubmit());
