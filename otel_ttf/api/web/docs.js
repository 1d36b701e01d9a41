"use strict";
// validatorUrl: by default the page would ask a server on the internet about our OpenAPI document.
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  queryConfigEnabled: false,
  supportedSubmitMethods: ["get", "post"],
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
});
